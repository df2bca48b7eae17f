"""Multipart forms: one uploaded file, and texts beside it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.api.errors import BadParameter, TooLarge
from gateway.api.http.bodies import stated_bytes
from gateway.audio.read import MAX_FILE_BYTES

_UTF_8 = re.compile(r"; *charset *= *\"?utf-?8\"?(;|$)")
_MAX_FORM_BYTES = MAX_FILE_BYTES + 1_000_000
"""Size limit of a whole form: one recording and the texts beside it."""
_MAX_FIELDS = 32


async def read_form(
    request: Request, *, file_field: str, fields: Collection[str], lists: Collection[str] = ()
) -> tuple[bytes, dict[str, Any]]:
    """Return the recording of a form, and its texts by their names: a string for each of `fields` that the form has, a
    list of strings for each of `lists`.

    A list's name may end in `[]`, as OpenAI's clients write it. Raises BadParameter for something else than a form with
    this file and these names, TooLarge for a larger file than `MAX_FILE_BYTES`.
    """
    content_type = request.headers.get("content-type", "").lower()
    names = ", ".join((file_field, *fields, *lists))
    if not content_type.startswith("multipart/form-data"):
        raise BadParameter("body", f"expected a multipart form: {names}")
    if "charset" in content_type and not _UTF_8.search(content_type):
        # Python knows codecs that make text which is not Unicode, and some that fail with errors of their own.
        raise BadParameter("body", "expected a multipart form in UTF-8, without another charset")
    too_large = f"expected a recording of at most {MAX_FILE_BYTES} bytes"
    if stated_bytes(request.headers) > _MAX_FORM_BYTES:
        raise TooLarge(file_field, too_large)
    recording, texts = None, dict[str, Any]()
    try:
        async with request.form(max_files=1, max_fields=_MAX_FIELDS) as form:
            for name, value in form.multi_items():
                plain = name.removesuffix("[]")
                if name == file_field and isinstance(value, UploadFile):
                    recording = await value.read()
                elif plain in lists and isinstance(value, str):
                    texts.setdefault(plain, []).append(value)
                elif name in fields and isinstance(value, str):
                    texts[name] = value
                elif name not in (file_field, *fields):
                    raise BadParameter(name[:80], f"unknown field {name[:80]!r}", "unknown_parameter")
                elif name in fields:
                    raise BadParameter(name, f"{name}: expected a text, got a file")
    except HTTPException as error:  # Starlette cannot parse the form
        raise BadParameter("body", str(error.detail)) from None
    if recording is None:
        raise BadParameter(file_field, f"expected the recording as a file in the field `{file_field}`")
    if len(recording) > MAX_FILE_BYTES:
        raise TooLarge(file_field, f"{too_large}, got {len(recording)}")
    return recording, texts
