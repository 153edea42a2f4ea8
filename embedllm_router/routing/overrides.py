"""What a request is routed by: the virtual model's objective, and what team, key, header and body replace. Pure.

Of objectives the nearest to the request wins: body, header, key, team, virtual model. Limits and rules of a team and a
key are ceilings: nothing nearer loosens them.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from embedllm_router.errors import RequestError
from embedllm_router.routing.decision import Objective
from embedllm_router.routing.pool import NO_RULES, Rules

__all__ = [
    "AIMS",
    "BODY_FIELD",
    "COST_WEIGHT_HEADER",
    "FIELDS",
    "PROFILES",
    "Allowed",
    "Override",
    "Overrides",
    "combine",
    "header_override",
    "read_override",
]

BODY_FIELD = "embedllm"
COST_WEIGHT_HEADER = "x-embedllm-cost-weight"
PROFILES = {"quality": 0.0, "balanced": 20.0, "cheap": 500.0}
"""Cost weights by name."""
AIMS = ("cost_weight", "profile", "min_p_correct", "within")
"""What says which candidate is best; at most one of them at a time."""
FIELDS = (*AIMS, "max_cost_usd", "latency_weight", "candidates", "providers", "regions", "labels")
"""Everything a request, a key or a team may set."""

_LONGEST_NAME, _MOST_NAMES = 40, 5  # of what a client sent, in messages that LiteLLM logs
_LONGEST_LISTED, _MOST_LISTED = 256, 256  # of what it may send


@dataclass(frozen=True, slots=True)
class Override:
    """What one source sets: body, header, key or team.

    Attributes:
        source: "body", "header", "key" or "team".
        aim: What the best candidate is; None leaves it.
        max_cost_usd: A limit on the expected cost; None leaves it.
        latency_weight: Accuracy given up per second; None leaves it.
        candidates: The only candidates allowed; None allows all.
        rules: Which candidates may answer at all.
        names: The fields it sets.
    """

    source: str
    aim: Objective | None = None
    max_cost_usd: float | None = None
    latency_weight: float | None = None
    candidates: frozenset[str] | None = None
    rules: Rules = NO_RULES
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowed:
    """What header and body may set.

    Attributes:
        names: Names of fields.
        min_cost_weight: Least cost weight they may ask for; None sets no bound.
        max_cost_usd: Highest limit on the cost they may ask for; None sets no bound.
    """

    names: Collection[str] = FIELDS
    min_cost_weight: float | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one request is routed by.

    Attributes:
        objective: The virtual model's, or what was put in its place.
        objective_from: "body", "header", "key", "team" or "config".
        candidates: The only candidates allowed; None allows all of the virtual model's.
        rules: Which candidates may answer at all.
        by_client: Whether the request itself set any of it.
    """

    objective: Objective
    objective_from: str = "config"
    candidates: frozenset[str] | None = None
    rules: Rules = NO_RULES
    by_client: bool = False


def header_override(headers: Mapping[str, str]) -> Override:
    """Reads the request's headers, names in lower case.

    Raises:
        RequestError: The value is no number of at least 0; names the header.
    """
    if COST_WEIGHT_HEADER not in headers:
        return Override("header")
    aim = Objective(_header_number(headers[COST_WEIGHT_HEADER]))
    return Override("header", aim, names=("cost_weight",))


def read_override(source: str, field: object) -> Override:
    """Reads the body field `embedllm`, or the same object in a key's or team's metadata.

    Args:
        source: "body", "key" or "team".
        field: Its value; None when absent.

    Returns:
        What it sets.

    Raises:
        RequestError: A value is wrong; names the field.
    """
    body = _Body(BODY_FIELD if source == "body" else f"{source}.{BODY_FIELD}", field)
    return Override(
        source,
        aim=_aim(body),
        max_cost_usd=body.number("max_cost_usd"),
        latency_weight=body.number("latency_weight"),
        candidates=body.names("candidates"),
        rules=_rules(body),
        names=tuple(body.fields),
    )


def combine(  # noqa: PLR0913, PLR0917 - a virtual model's side and the request's
    configured: Objective,
    rules: Rules,
    overrides: Sequence[Override],
    allowed: Allowed,
    names: Collection[str],
    at_efforts: Mapping[str, Collection[str]] | None = None,
) -> Overrides:
    """Puts overrides together; without any the virtual model's objective and rules stand.

    Args:
        configured: The virtual model's objective.
        rules: The virtual model's rules.
        overrides: Of team, key, header and body, in this order.
        allowed: What header and body may set.
        names: The virtual model's candidates.
        at_efforts: Of them, those that a model group is at several reasoning efforts, by its name, which stands for all
            of them in lists of candidates; None for none.

    Returns:
        What the request is routed by.

    Raises:
        RequestError: Header or body sets what it may not, or names a candidate that is none.
    """
    objective, source, limit = configured, "config", configured.max_cost_usd
    candidates: frozenset[str] | None = None
    for override in overrides:
        if override.source in {"header", "body"}:
            _check_allowed(override, allowed)
        if override.aim is not None:
            kept = {"latency_weight": objective.latency_weight, "near_tie_margin": objective.near_tie_margin}
            objective, source = replace(override.aim, **kept), override.source
        if override.latency_weight is not None:
            objective, source = replace(objective, latency_weight=override.latency_weight), override.source
        if override.max_cost_usd is not None:
            limit, source = override.max_cost_usd, override.source
        if override.candidates is not None:
            its = frozenset(one for name in override.candidates for one in (at_efforts or {}).get(name, (name,)))
            _check_known(override, its, names)
            candidates = its if candidates is None else candidates & its
        rules = rules.and_also(override.rules)
    ceilings = [w.max_cost_usd for w in overrides if w.source in {"team", "key"} and w.max_cost_usd is not None]
    if limit is not None or ceilings:
        limit = min([*ceilings, *([] if limit is None else [limit])])
    by_client = any(override.names for override in overrides if override.source in {"header", "body"})
    return Overrides(replace(objective, max_cost_usd=limit), source, candidates, rules, by_client)


def _check_allowed(override: Override, allowed: Allowed) -> None:
    for name in override.names:
        if name not in allowed.names:
            may = ", ".join(allowed.names) or "nothing"
            raise RequestError(_said(override, name), f"a request may not set this here; it may set {may}")
    weight, least = override.aim.cost_weight if override.aim else None, allowed.min_cost_weight
    if weight is not None and least is not None and weight < least:
        raise RequestError(_said(override, "cost_weight"), f"expected at least {least:g}, found {weight:g}")
    limit, most = override.max_cost_usd, allowed.max_cost_usd
    if limit is not None and most is not None and limit > most:
        raise RequestError(_said(override, "max_cost_usd"), f"expected at most {most:g}, found {limit:g}")


def _check_known(override: Override, candidates: frozenset[str], names: Collection[str]) -> None:
    unknown = sorted(candidates - set(names))
    if unknown and override.source == "body":
        found = ", ".join(name[:_LONGEST_NAME] for name in unknown[:_MOST_NAMES])
        raise RequestError(f"{BODY_FIELD}.candidates", f"unknown {found}; this model chooses among {', '.join(names)}")


def _said(override: Override, name: str) -> str:
    return COST_WEIGHT_HEADER if override.source == "header" else f"{BODY_FIELD}.{name}"


class _Body:
    """The object that sets them, read field by field."""

    def __init__(self, path: str, field: object) -> None:
        self.path = path
        if field is not None and not isinstance(field, Mapping):
            raise RequestError(path, f"expected an object, found {type(field).__name__}")
        self.fields: Mapping[str, object] = {str(k): v for k, v in (field or {}).items() if v is not None}
        unknown = next((key for key in self.fields if key not in FIELDS), None)
        if unknown is not None:  # what is no name may be a prompt in the wrong place: it is not repeated
            field = f"{path}.{unknown}" if unknown.isidentifier() and len(unknown) <= _LONGEST_NAME else path
            raise RequestError(field, f"unknown field, expected one of {', '.join(FIELDS)}")

    def number(self, name: str, *, at_most: float = math.inf) -> float | None:
        value, field = self.fields.get(name), f"{self.path}.{name}"
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RequestError(field, f"expected a number, found {type(value).__name__}")
        return _checked(field, value, at_most)

    def names(self, name: str) -> frozenset[str] | None:
        value = self.fields.get(name)
        return None if value is None else _names(f"{self.path}.{name}", value)


def _aim(body: _Body) -> Objective | None:
    said = [name for name in AIMS if name in body.fields]
    if len(said) > 1:
        raise RequestError(f"{body.path}.{said[1]}", f"excludes {said[0]}; send one of them")
    match said:
        case ["cost_weight"]:
            return Objective(body.number("cost_weight") or 0.0)
        case ["profile"]:
            return Objective(_profile(body))
        case ["min_p_correct"]:
            return Objective(min_p_correct=body.number("min_p_correct", at_most=1.0))
        case ["within"]:
            return Objective(max_accuracy_drop=body.number("within", at_most=1.0))
        case _:
            return None


def _rules(body: _Body) -> Rules:
    providers, regions = _places(body, "providers"), _places(body, "regions")
    return Rules(*providers, *regions, body.names("labels") or frozenset())


def _places(body: _Body, name: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    """`{"allow": [...], "deny": [...]}`, or a plain list of those allowed."""
    value, field = body.fields.get(name), f"{body.path}.{name}"
    if isinstance(value, list):
        value = {"allow": value}
    if value is None:
        return None, frozenset()
    if not isinstance(value, Mapping) or not value or set(value) - {"allow", "deny"}:
        raise RequestError(field, 'expected a list of names, or an object with "allow", "deny" or both')
    allow = _names(f"{field}.allow", value["allow"], lower=True) if "allow" in value else None
    deny = _names(f"{field}.deny", value["deny"], lower=True) if "deny" in value else frozenset()
    return allow, deny


def _names(field: str, value: object, *, lower: bool = False) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RequestError(field, "expected a list of at least one name")
    if len(value) > _MOST_LISTED or max(map(len, value)) > _LONGEST_LISTED:  # rules are kept, to be looked up again
        limits = f"expected at most {_MOST_LISTED} names of at most {_LONGEST_LISTED} characters"
        raise RequestError(field, f"{limits}, found {len(value)}, the longest of {max(map(len, value))}")
    return frozenset(name.lower() if lower else name for name in value)


def _profile(body: _Body) -> float:
    value = body.fields["profile"]
    if not isinstance(value, str) or value not in PROFILES:
        raise RequestError(f"{body.path}.profile", f"expected one of {', '.join(PROFILES)}")
    return PROFILES[value]


def _header_number(text: str) -> float:
    try:
        return _checked(COST_WEIGHT_HEADER, float(text), math.inf)
    except ValueError as error:
        raise RequestError(COST_WEIGHT_HEADER, "expected a number, found another text") from error


def _checked(field: str, value: float, at_most: float) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number) or not 0 <= number <= at_most:
        bounds = "of at least 0" if math.isinf(at_most) else f"between 0 and {at_most:g}"
        raise RequestError(field, f"expected a finite number {bounds}, found {number:g}")
    return number
