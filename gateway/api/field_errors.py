"""What is wrong with a field of a request, in the protocol's names and in plain sentences.

pydantic tells it with the names of Python's types. Clients and their developers know the fields of JSON only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gateway.api.errors import BadParameter

ModelT = TypeVar("ModelT", bound=BaseModel)

_MAX_NAME_CHARS = 80
_MAX_PATH_CHARS = 200
_MAX_SHOWN_CHARS = 40

_NOUNS = {
    "string": "a string",
    "int": "an integer",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "none_required": "null",
}
"""What a field may be, by the kind of pydantic's error, without the endings `_type`, `_parsing` and the like."""

_BOUNDS = {
    "greater_than_equal": ("of at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("of at most", "le"),
    "less_than": ("below", "lt"),
}
"""The words for a bound of a number, and the bound's name in the context of pydantic's error."""

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    ((list, tuple), "a list"),
    (dict, "an object"),
)


def fit(value: object, model: type[ModelT], where: str = "") -> ModelT:
    """Return `value`, which is JSON, as a `model`. `where` names the value in its request; empty: it is the request.

    Raises BadParameter, which names the field and says what it may be.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _bad_parameter(error, value, where) from None


def _bad_parameter(error: ValidationError, value: object, where: str) -> BadParameter:
    """The first problem. Where a field may have one of several types, the problem is that of the type that fits best:
    the deepest one. Types that fit equally well are named together. A wrong `type` of an object comes before what an
    object of the right type would have."""
    problems = [(_path(problem, value), problem) for problem in error.errors(include_url=False)]
    deepest = max((path for path, _ in problems), key=lambda path: (len(path), path[-1:] == ("type",)))
    here = [problem for path, problem in problems if path == deepest]
    names = [*([where] if where else []), *(name[:_MAX_NAME_CHARS] for name in deepest)]
    field = ".".join(names)[:_MAX_PATH_CHARS] or "body"
    kind = here[0]["type"]
    if kind == "extra_forbidden":
        return BadParameter(field, f"{field}: there is no such field", "unknown_parameter")
    if kind in ("missing", "union_tag_not_found"):
        return BadParameter(field, f"{field}: the field is missing", "missing_required_parameter")
    if kind in ("value_error", "assertion_error"):
        return BadParameter(field, f"{field}: {here[0].get('ctx', {}).get('error')}", "invalid_value")
    expected = " or ".join(dict.fromkeys(_expected(problem) for problem in here))
    return BadParameter(field, f"{field}: expected {expected}, got {_shown(_found(here[0]))}", "invalid_value")


def _path(problem: Mapping[str, Any], value: object) -> tuple[str, ...]:
    """The field of a problem: the names in `value` that lead to it, without the types that pydantic puts between."""
    path: list[str] = []
    place: Sequence[str | int] = problem["loc"]
    for number, name in enumerate(place):
        if isinstance(value, dict) and name in value:
            value = cast(dict[str | int, object], value)[name]
        elif isinstance(value, list) and isinstance(name, int) and name < len(value):
            value = cast(list[object], value)[name]
        elif number < len(place) - 1 or problem["type"] != "missing":
            continue
        path.append(str(name))
    if problem["type"].startswith("union_tag"):
        path.append(_tag_name(problem))
    return tuple(path)


def _tag_name(problem: Mapping[str, Any]) -> str:
    """The name of the field that tells which of several types an object has."""
    return problem["ctx"]["discriminator"].strip("'")


def _found(problem: Mapping[str, Any]) -> object:
    found = problem["input"]
    if problem["type"] == "union_tag_invalid" and isinstance(found, dict):
        return cast(dict[str, object], found).get(_tag_name(problem))
    return found


def _expected(problem: Mapping[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "literal_error":
        return context["expected"].replace("False", "false")
    if kind == "union_tag_invalid":
        return context["expected_tags"].replace(", ", " or ")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        limit = context[bound]
        return f"a number {words} {limit if isinstance(limit, int) else f'{limit:g}'}"
    if kind == "string_too_long":
        return f"a string of at most {context['max_length']} characters"
    if kind == "string_too_short":
        return f"a string of at least {context['min_length']} characters"
    if kind in ("too_long", "too_short"):
        noun = _NOUNS.get(context["field_type"].lower().removesuffix("ionary"), "a list")
        if kind == "too_long":
            return f"{noun} of at most {context['max_length']} entries"
        return f"{noun} of at least {context['min_length']} entries"
    stem = kind
    for ending in ("_type", "_parsing", "_parsing_size", "_from_float"):
        stem = stem.removesuffix(ending)
    return _NOUNS.get(stem) or str(problem["msg"]).lower()


def _shown(value: object) -> str:
    """A value as an error shows it: a number or a short string as it is, of anything else its kind."""
    if isinstance(value, str) and len(value) <= _MAX_SHOWN_CHARS:
        return repr(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e16:
        return f"{value:g}" if isinstance(value, float) else str(value)
    return next((name for types, name in _KINDS if isinstance(value, types)), "something else")
