"""What a client may set for one request: header `x-embedllm-cost-weight`, body field `embedllm`. Pure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from embedllm_router.errors import RequestError

__all__ = ["BODY_FIELD", "COST_WEIGHT_HEADER", "Overrides", "read_overrides"]

BODY_FIELD = "embedllm"
COST_WEIGHT_HEADER = "x-embedllm-cost-weight"
_FIELDS = ("cost_weight", "candidates")


@dataclass(frozen=True, slots=True)
class Overrides:
    """A client's wishes for one request.

    Attributes:
        cost_weight: λ; None leaves the virtual model's.
        cost_weight_from: "header", "body" or "config".
        candidates: The only candidates allowed; None allows all of the virtual model's.
    """

    cost_weight: float | None = None
    cost_weight_from: str = "config"
    candidates: frozenset[str] | None = None


def read_overrides(headers: Mapping[str, str], field: object, names: Collection[str]) -> Overrides:
    """Reads and checks a client's wishes; the body field wins over the header.

    Args:
        headers: Request headers, names in lower case.
        field: Value of the body field `embedllm`; None when absent.
        names: Names of the virtual model's candidates.

    Returns:
        The overrides.

    Raises:
        RequestError: A value is wrong; names the field or header.
    """
    cost_weight, source = None, "config"
    if COST_WEIGHT_HEADER in headers:
        cost_weight, source = _header_cost_weight(headers[COST_WEIGHT_HEADER]), "header"
    body = _body(field)
    if body.get("cost_weight") is not None:
        cost_weight, source = _cost_weight(f"{BODY_FIELD}.cost_weight", body["cost_weight"]), "body"
    return Overrides(cost_weight, source, _candidates(body.get("candidates"), names))


def _body(field: object) -> Mapping[str, object]:
    if field is None:
        return {}
    if not isinstance(field, Mapping):
        raise RequestError(BODY_FIELD, f"expected an object, found {type(field).__name__}")
    unknown = next((key for key in field if key not in _FIELDS), None)
    if unknown is not None:
        raise RequestError(f"{BODY_FIELD}.{unknown}", f"unknown field, expected one of {', '.join(_FIELDS)}")
    return field


def _header_cost_weight(text: str) -> float:
    try:
        return _cost_weight(COST_WEIGHT_HEADER, float(text))
    except ValueError as error:
        raise RequestError(COST_WEIGHT_HEADER, f"expected a number, found {text[:40]!r}") from error


def _cost_weight(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(name, f"expected a number, found {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise RequestError(name, f"expected a finite number of at least 0, found {value}")
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
