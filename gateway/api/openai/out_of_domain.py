"""What clients of the HTTP API learn of sentences that the checkpoint cannot say, by its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADER = "x-out-of-domain"


def out_of_domain_header(sentences: Sequence[str]) -> dict[str, str]:
    """Return the header with the number of these sentences. Without sentences there is none."""
    return {HEADER: str(len(sentences))} if sentences else {}


def out_of_domain_member(sentences: Sequence[str]) -> dict[str, Any]:
    """Return the member of a response or an event with these sentences. Without sentences there is none."""
    return {"out_of_domain": list(sentences)} if sentences else {}
