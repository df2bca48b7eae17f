"""How codes are drawn from the model's logits: the ranges of what a caller may set, stated once for every process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from services.common.errors import InvalidArgument

MAX_SEED = 2**64 - 1

MAX_TOP_K = 2**32 - 1
MAX_TEMPERATURE = 3.4e38
"""The message's field is a float32."""

Temperature = Annotated[float, Field(gt=0, le=MAX_TEMPERATURE, allow_inf_nan=False)]
"""Divides the logits. Zero is not a temperature: the caller asks for `greedy` instead."""
TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K)]
"""How many of the likeliest codes are kept."""
TopP = Annotated[float, Field(gt=0, le=1)]
"""The share of probability that the kept codes hold together at least."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
"""Seed of one stream's own random numbers."""

_RULES: dict[str, tuple[TypeAdapter[float], str]] = {
    "temperature": (TypeAdapter(Temperature), "a number above 0"),
    "top_k": (TypeAdapter(TopK), "at least 1"),
    "top_p": (TypeAdapter(TopP), "above 0 and at most 1"),
    "seed": (TypeAdapter(Seed), f"0 to {MAX_SEED}"),
}


@dataclass(frozen=True)
class SamplingParams:
    """How one stream draws its codes; the same for all codebooks. Raises `InvalidArgument` for a value out of range.

    `greedy` takes the likeliest code and ignores the other fields. Otherwise the logits are divided by `temperature`,
    the `top_k` likeliest codes are kept, and of these the fewest that together hold the share `top_p` of probability.
    """

    greedy: bool = False
    temperature: Temperature = 1.0
    top_k: TopK = 50
    top_p: TopP = 1.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name, (rule, expected) in _RULES.items():
            value = getattr(self, name)
            try:
                rule.validate_python(value)
            except ValidationError:
                hint = "; ask for greedy instead of 0" if name == "temperature" and value == 0 else ""
                raise InvalidArgument(f"sampling.{name}: expected {expected}, got {value}{hint}") from None

    def changed(self, **values: Any) -> SamplingParams:
        """These parameters with the fields in `values` replaced. Raises `InvalidArgument`.

        A value for temperature, top_k or top_p asks for drawn codes: it turns `greedy` off unless `values` sets it.
        """
        draws = not values.keys().isdisjoint({"temperature", "top_k", "top_p"})
        return replace(self, **{"greedy": self.greedy and not draws, **values})
