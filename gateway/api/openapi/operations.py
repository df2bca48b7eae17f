"""The form of an operation in the OpenAPI description, and of what it takes and answers."""

from __future__ import annotations

from typing import Any

from gateway.api.errors import STATUSES
from gateway.api.openapi import schemas


def operation(
    summary: str,
    description: str,
    responses: dict[str, Any],
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return an operation. Beside its responses it may answer with an error."""
    statuses = [f"{status} {name}" for name, status in STATUSES.items()]
    codes = ", ".join([*statuses, "413 (a body or a file above its limit)"])
    failed = json_answer(f"What was wrong: {codes}.", _schema_of("Error"))
    optional = {"description": description, "requestBody": body, "parameters": parameters}
    return {
        "summary": summary,
        "responses": {**responses, "default": failed},
        **{name: value for name, value in optional.items() if value},
    }


def in_path(name: str) -> dict[str, Any]:
    """Return a parameter that is a part of the path."""
    return {"name": name, "in": "path", "required": True, "schema": schemas.TEXT}


def json_answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return an answer in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def object_answer(description: str, name: str) -> dict[str, Any]:
    """Return an answer that is an object of the named schema."""
    return json_answer(description, _schema_of(name))


def page_answer(description: str, name: str) -> dict[str, Any]:
    """Return an answer that is one page of a list of objects of the named schema."""
    items = {"type": "array", "items": _schema_of(name)}
    properties = {"data": items, "has_more": {"type": "boolean"}}
    return json_answer(description, {"type": "object", "properties": properties})


def json_body(name: str, *, required: bool = True) -> dict[str, Any]:
    """Return a body in JSON, of the named schema."""
    return _body("application/json", _schema_of(name), required=required)


def form_of(name: str) -> dict[str, Any]:
    """Return a body that is a form with the fields of the named schema."""
    return _body("multipart/form-data", _schema_of(name))


def form(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return a body that is a form with these fields, of which some are required."""
    return _body("multipart/form-data", {"type": "object", "required": [*required], "properties": properties})


def _body(content_type: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {content_type: {"schema": schema}}}


def _schema_of(name: str) -> dict[str, Any]:
    return {"$ref": schemas.REF + name}
