"""What a budget has learned of its requests, as text that outlives the process: JSON, checked when it is read. Pure."""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router.routing.budget_budgets_curve import LADDER, SpendCurve
from embedllm_router.serving.budget_enforcer_budgets_traffic import SLOTS, Traffic

__all__ = ["pack", "unpack"]

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Learned(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    spend: Annotated[list[Amount], Field(min_length=len(LADDER), max_length=len(LADDER))]
    n: Count
    rate: Annotated[list[Amount], Field(min_length=SLOTS, max_length=SLOTS)]
    seen: Annotated[list[Count], Field(min_length=SLOTS, max_length=SLOTS)]


def pack(curve: SpendCurve, traffic: Traffic) -> str:
    """What was learned, as JSON."""
    learned = {"format": 1, "spend": curve.spend.tolist(), "n": curve.n, "rate": traffic.rate, "seen": traffic.seen}
    return orjson.dumps(learned).decode()


def unpack(text: str | None) -> tuple[SpendCurve, Traffic]:
    """What was learned; nothing where the text is none, or not what `pack` makes."""
    if text is not None:
        try:
            learned = _Learned.model_validate(orjson.loads(text))
        except (orjson.JSONDecodeError, ValidationError):
            return SpendCurve(), Traffic()
        return SpendCurve(learned.spend, learned.n), Traffic(learned.rate, learned.seen)
    return SpendCurve(), Traffic()
