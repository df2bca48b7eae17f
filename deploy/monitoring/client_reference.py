"""docs/client.md: the reference of the Python client, from its docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chroma_voice
from chroma_voice import microphone

PAGE = Path("docs/client.md")

_HEAD = """# The Python client

This page is written from the code by `make generated`. [The guide](api.md#python) explains the client with examples,
and [`examples/`](../examples) has whole programs. Install it with `pip install ./clients/python`.

`SyncClient`, `SyncConversation` and `SyncReply` have the methods of `Client`, `Conversation` and `Reply`, without
`async`.
"""

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("The client", ("Client", "SyncClient", "Patience")),
    ("Conversations", ("Conversation", "SyncConversation", "Reply", "SyncReply", "TurnDetection", "Sampling")),
    (
        "Events",
        (
            *("SpeechStarted", "SpeechStopped", "TurnStarted", "TextDelta", "AudioDelta", "ToolCall", "TurnDone"),
            *("Timings", "UserTranscript", "EndsSoon"),
        ),
    ),
    ("Sessions", ("Session", "SessionSettings", "Entry")),
    ("Voices and consents", ("Voice", "Consent", "ConsentedVoice")),
    ("Tools", ("Tool", "Tools", "ToolResult")),
    (
        "Errors",
        (
            *("ChromaError", "InvalidArgument", "OutOfRange", "NotFound", "AlreadyExists", "FailedPrecondition"),
            *("ResourceExhausted", "DeadlineExceeded", "Unavailable", "Unauthenticated", "PermissionDenied"),
        ),
    ),
)

_MICROPHONE = ("microphone", "play", "Speaker", "SoundDevice", "sound_devices")
_QUOTED_TYPE = re.compile(r": '([^']*)'")
_NOT_FOR_CALLERS = ("from_proto", "to_proto")


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for title, names in _GROUPS:
        parts.append(f"## {title}\n")
        parts += [part for name in names for part in _described(name, getattr(chroma_voice, name))]
    parts.append("## Microphone and loudspeaker\n")
    parts.append("`chroma_voice.microphone` needs the package `sounddevice`.\n")
    parts += [part for name in _MICROPHONE for part in _described(name, getattr(microphone, name))]
    return "\n".join(parts)


def described() -> set[str]:
    """Return the names of `chroma_voice` that the page describes."""
    return {name for _, names in _GROUPS for name in names}


def _described(name: str, found: Any) -> Iterator[str]:
    """Yield a class with its public methods, or a function."""
    yield f"### {name}\n"
    if _has_signature(found):
        yield f"```python\n{_signature(name, found)}\n```\n"
    yield f"{inspect.getdoc(found)}\n"
    if not inspect.isclass(found):
        return
    for member_name, member in vars(found).items():
        if member_name.startswith("_") or member_name in _NOT_FOR_CALLERS:
            continue
        if isinstance(member, property):
            yield f"- **`{member_name}`** {_one_line(member.fget)}"
        elif inspect.isfunction(member):
            is_async = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            awaited = "async " if is_async else ""
            yield f"- **`{awaited}{_signature(member_name, member)}`** {_one_line(member)}"
    yield ""


def _has_signature(found: Any) -> bool:
    if not inspect.isclass(found):
        return True
    return dataclasses.is_dataclass(found) or ("__init__" in vars(found) and not issubclass(found, Exception))


def _signature(name: str, found: Any) -> str:
    """Return the call as it is written, without `self`."""
    signature = inspect.signature(found)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    shown = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    returned = "" if inspect.isclass(found) else f" -> {signature.return_annotation}"
    call = _QUOTED_TYPE.sub(r": \1", str(shown))
    return f"{name}{call}{returned}"


def _one_line(found: Any) -> str:
    return " ".join((inspect.getdoc(found) or "").split())


if __name__ == "__main__":
    PAGE.write_text(page())
