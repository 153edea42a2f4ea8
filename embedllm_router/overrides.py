"""What a client may set for one request: header `x-embedllm-cost-weight`, body field `embedllm`. Pure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from embedllm_router.errors import RequestError
from embedllm_router.policy import Objective

__all__ = ["AIMS", "BODY_FIELD", "COST_WEIGHT_HEADER", "PROFILES", "Overrides", "read_overrides"]

BODY_FIELD = "embedllm"
COST_WEIGHT_HEADER = "x-embedllm-cost-weight"
PROFILES = {"quality": 0.0, "balanced": 20.0, "cheap": 500.0}
"""Cost weights by name."""
AIMS = ("cost_weight", "profile", "min_p_correct", "within")
"""What says which candidate is best; at most one of them at a time."""
_FIELDS = (*AIMS, "max_cost_usd", "candidates")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one request is routed by.

    Attributes:
        objective: The virtual model's, or what the client put in its place.
        objective_from: "body", "header" or "config".
        candidates: The only candidates allowed; None allows all of the virtual model's.
    """

    objective: Objective
    objective_from: str = "config"
    candidates: frozenset[str] | None = None


def read_overrides(
    headers: Mapping[str, str], field: object, names: Collection[str], configured: Objective
) -> Overrides:
    """Reads and checks a client's wishes; the body field wins over the header, both over the configuration.

    An aim of the client replaces the configured one; `max_cost_usd` stays unless it is overridden itself.

    Args:
        headers: Request headers, names in lower case.
        field: Value of the body field `embedllm`; None when absent.
        names: Names of the virtual model's candidates.
        configured: The virtual model's objective.

    Returns:
        What the request is routed by.

    Raises:
        RequestError: A value is wrong; names the field or header.
    """
    objective, source = configured, "config"
    limit = configured.max_cost_usd
    if COST_WEIGHT_HEADER in headers:
        objective = Objective(_header_number(headers[COST_WEIGHT_HEADER]), max_cost_usd=limit)
        source = "header"
    body = _body(field)
    aim = _aim(body)
    if aim is not None:
        objective, source = replace(aim, max_cost_usd=limit), "body"
    if body.get("max_cost_usd") is not None:
        objective, source = replace(objective, max_cost_usd=_number(body, "max_cost_usd")), "body"
    return Overrides(objective, source, _candidates(body.get("candidates"), names))


def _aim(body: Mapping[str, object]) -> Objective | None:
    said = [name for name in AIMS if body.get(name) is not None]
    if not said:
        return None
    if len(said) > 1:
        raise RequestError(f"{BODY_FIELD}.{said[1]}", f"excludes {said[0]}; send one of them")
    match said[0]:
        case "cost_weight":
            return Objective(_number(body, "cost_weight"))
        case "profile":
            return Objective(_profile(body["profile"]))
        case "min_p_correct":
            return Objective(min_p_correct=_number(body, "min_p_correct", at_most=1.0))
        case _:
            return Objective(within=_number(body, "within", at_most=1.0))


def _body(field: object) -> Mapping[str, object]:
    if field is None:
        return {}
    if not isinstance(field, Mapping):
        raise RequestError(BODY_FIELD, f"expected an object, found {type(field).__name__}")
    unknown = next((key for key in field if key not in _FIELDS), None)
    if unknown is not None:
        raise RequestError(f"{BODY_FIELD}.{unknown}", f"unknown field, expected one of {', '.join(_FIELDS)}")
    return field


def _profile(value: object) -> float:
    if not isinstance(value, str) or value not in PROFILES:
        raise RequestError(f"{BODY_FIELD}.profile", f"expected one of {', '.join(PROFILES)}, found {str(value)[:40]!r}")
    return PROFILES[value]


def _header_number(text: str) -> float:
    try:
        return _checked(COST_WEIGHT_HEADER, float(text), math.inf)
    except ValueError as error:
        raise RequestError(COST_WEIGHT_HEADER, f"expected a number, found {text[:40]!r}") from error


def _number(body: Mapping[str, object], name: str, *, at_most: float = math.inf) -> float:
    value, field = body[name], f"{BODY_FIELD}.{name}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(field, f"expected a number, found {type(value).__name__}")
    return _checked(field, value, at_most)


def _checked(field: str, value: float, at_most: float) -> float:
    if not math.isfinite(value) or not 0 <= value <= at_most:
        bounds = "of at least 0" if math.isinf(at_most) else f"between 0 and {at_most:g}"
        raise RequestError(field, f"expected a finite number {bounds}, found {value}")
    return float(value)


def _candidates(value: object, names: Collection[str]) -> frozenset[str] | None:
    if value is None:
        return None
    field = f"{BODY_FIELD}.candidates"
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RequestError(field, "expected a list of at least one name")
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise RequestError(field, f"unknown {', '.join(unknown)}; this model chooses among {', '.join(names)}")
    return frozenset(value)
