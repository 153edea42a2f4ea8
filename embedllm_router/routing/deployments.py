"""LiteLLM's `model_list` → candidates: which learned LLM a model group stands for, and what it costs. Pure.

A model group may hold several deployments of one LLM. Its price is that of the dearest one, since LiteLLM may
pick any; a price nobody states is unknown, never zero.
"""

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from embedllm_router.artifact.catalog import Catalog, Match
from embedllm_router.artifact.names import EFFORTS, REASONING_EFFORTS, LLMName, read_name
from embedllm_router.routing.pool import PARAMETERS, Candidate, Capability, Exclusion, PriceTier, ServicePrices
from embedllm_router.routing.prompt import service_tier_in

__all__ = [
    "UNKNOWN_PLACE",
    "Accepts",
    "Complaint",
    "ModelGroup",
    "PriceMap",
    "Row",
    "accepts_unknown",
    "by_candidate",
    "group_of_deployment",
    "is_paused",
    "read_model_groups",
    "through_wildcards",
    "unknown_capabilities",
]

Row = Mapping[str, object]
PriceMap = Mapping[str, Mapping[str, object]]
Accepts = Callable[[Row], frozenset[str] | None]
"""Names of the request parameters that a deployment takes; None when nobody knows, or it refuses none."""

_FLAGS = {
    Capability.VISION: "supports_vision",
    Capability.AUDIO: "supports_audio_input",
    Capability.PDF: "supports_pdf_input",
    Capability.TOOLS: "supports_function_calling",
    Capability.JSON_SCHEMA: "supports_response_schema",
}


UNKNOWN_PLACE = "unknown"
"""Provider or region of a deployment that states none: on no list of allowed ones."""

_ANSWERING = frozenset({None, "chat", "completion", "responses"})  # modes of deployments that answer prompts
_LONGEST = 40  # characters of a wrong value in a message
_TIER = re.compile(r"input_cost_per_token_above_(\d+)k_tokens(?:_[a-z]+)?")
_SERVICE = re.compile(r"(?:in|out)put_cost_per_token(?:_above_\d+k_tokens)?_(flex|balanced|priority|ultrafast)")
_PROFILE = re.compile(r"(?:^|/)(global|us-gov|us|eu|apac|jp|au|ca)\.[a-z0-9-]+\.|[:/]application-inference-profile/")
"""An inference profile of Bedrock answers from any region of its part of the world, whatever region is called."""
_ANYWHERE = frozenset({None, "", "global"})
_REGIONS = ("region_name", "aws_region_name", "vertex_location", "vertex_ai_location")


@dataclass(frozen=True, slots=True)
class Complaint:
    """A value in a model group's deployments that cannot be used.

    Attributes:
        place: Where it stands, such as "litellm_params.input_cost_per_token of openai/gpt-4o".
        found: What was expected and what was found.
        remedy: What to do about it.
    """

    place: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """A model group as a candidate, or what it is at a reasoning effort.

    Attributes:
        candidate: Its name, LLM, prices and context window.
        match: How its LLM was found.
        declared: Whether the configuration names the LLM (`model_info.embedllm`), or its name was looked up.
        read: What the name of an LLM that the weights do not know says; None when they know it, or it says nothing.
        like: A stand-in for such an LLM (`model_info.embedllm_like`); None without one.
        effort: The reasoning effort that its deployments are set to; None when they set none.
        thinks: Whether such an LLM reasons before it answers.
        members: The group as it would be with each of its LLMs alone, where its deployments are of several; else none.
        at_efforts: The group at each reasoning effort that its deployments declare (`model_info.embedllm_efforts`);
            where there is any, these are candidates in its place.
        names: What its LLM was looked up by.
        effort_refused: Whether LiteLLM's price map says that the LLM takes no such effort.
        complaints: Values in its deployments that cannot be used.
        unpriced: What its deployments lack for their prices to be known, such as "input_cost_per_token to
            litellm_params of openai/house-model".
    """

    candidate: Candidate
    match: Match
    declared: bool
    read: LLMName | None = None
    like: str | None = None
    effort: str | None = None
    thinks: bool = False
    members: "tuple[ModelGroup, ...]" = ()
    at_efforts: "tuple[ModelGroup, ...]" = ()
    names: tuple[str, ...] = ()
    effort_refused: bool = False
    complaints: tuple[Complaint, ...] = ()
    unpriced: tuple[str, ...] = ()

    @property
    def is_expected(self) -> bool:
        """Whether its LLM is one that nobody graded, and something is expected of it all the same."""
        return self.candidate.known_by in {"family", "like"} and self.candidate.row is None


def accepts_unknown(_row: Row) -> None:
    """Nobody knows which parameters a deployment takes."""


def read_model_groups(
    rows: Iterable[Row], prices: PriceMap, catalog: Catalog, accepts: Accepts = accepts_unknown
) -> dict[str, ModelGroup]:
    """Reads every model group of a `model_list`.

    Args:
        rows: LiteLLM's deployments: `model_name`, `litellm_params`, `model_info`.
        prices: LiteLLM's price map, raw.
        catalog: The learned LLMs.
        accepts: Which request parameters a deployment takes.

    Returns:
        Model groups by name, in the order they first appear.
    """
    listed: dict[str, list[Row]] = {}
    for row in rows:
        listed.setdefault(str(row.get("model_name")), []).append(row)
    groups = {}
    for name, its in listed.items():
        used = [row for row in its if not is_paused(row)] or its  # LiteLLM sends nothing to those that are paused
        group = _model_group(name, used, prices, catalog, accepts)
        wanted = [effort for effort in _efforts_of(used) if f"{name}:{effort}" not in listed]
        at_efforts = tuple(_at_effort(group, effort, catalog, _refuses(used, prices, effort)) for effort in wanted)
        complaints = (*_wrong_efforts(name, used, listed), *_wrong_prices(used))
        groups[name] = replace(group, at_efforts=at_efforts, complaints=complaints)
    return groups


def by_candidate(groups: Mapping[str, ModelGroup]) -> dict[str, ModelGroup]:
    """Model groups by the names of candidates: one that is chosen at several reasoning efforts is at each of them."""
    return {one.candidate.name: one for group in groups.values() for one in group.at_efforts or (group,)}


def through_wildcards(rows: Sequence[Row], names: Iterable[str]) -> list[Row]:
    """Deployments of names that no model group has, but a wildcard such as `openai/*` serves.

    Args:
        rows: LiteLLM's deployments.
        names: What is asked for, such as candidates.

    Returns:
        As LiteLLM makes them of the most specific wildcard that fits: the name in place of the pattern, and what stands
        for `*` in its `litellm_params.model`.
    """
    groups = {str(row.get("model_name")) for row in rows}
    patterns = sorted((name for name in groups if "*" in name), key=lambda name: len(_regex(name)), reverse=True)
    made: dict[str, list[Row]] = {}
    for name in names:
        fitting = ((pattern, re.fullmatch(_regex(pattern), name)) for pattern in patterns if name not in groups)
        pattern, found = next(((one, match) for one, match in fitting if match), (None, None))
        if pattern is None or found is None:
            continue
        behind = [row for row in rows if row.get("model_name") == pattern]
        group, _, effort = name.rpartition(":")
        if group and effort in _efforts_of(behind):
            name, found = group, re.fullmatch(_regex(pattern), group) or found  # noqa: PLW2901 - the group it is of
        if name not in groups:
            made[name] = [_specific(row, name, found) for row in behind]
    return [row for its in made.values() for row in its]


def _regex(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", "(.*)")


def _specific(row: Row, name: str, found: re.Match[str]) -> Row:
    model = _model_of(row)
    for segment in found.groups():
        model = model.replace("*", segment, 1)
    info = {key: value for key, value in _section(row, "model_info").items() if key != "id"}
    return {
        "model_name": name,
        "litellm_params": {**_section(row, "litellm_params"), "model": model},
        "model_info": info,
    }


def group_of_deployment(rows: Iterable[Row]) -> dict[str, str]:
    """Model group by deployment id, for naming the one that served; a wildcard serves many, so it has none."""
    named = ((_section(row, "model_info").get("id"), str(row.get("model_name"))) for row in rows)
    return {str(deployment): name for deployment, name in named if "*" not in name}


def _model_group(name: str, rows: Sequence[Row], prices: PriceMap, catalog: Catalog, accepts: Accepts) -> ModelGroup:
    declared = next((i for row in rows if (i := _section(row, "model_info").get("embedllm"))), None)
    names = [str(declared)] if declared else [*(n for row in rows for n in _llm_names(row)), name]
    effort = next((found for row in rows if (found := _effort(row))), None)
    matches = [catalog.match(n, effort) for n in names]
    match = next((m for m in matches if m.llm), matches[0])
    row = catalog.row(match.llm) if match.llm else None
    like = next((str(said) for one in rows if (said := _section(one, "model_info").get("embedllm_like"))), None)
    read = None if match.llm else _readable(names)
    usual = _prices_at(rows, prices, "")
    candidate = Candidate(
        name=name,
        llm=match.llm,
        row=row,
        input_usd_per_token=usual.input_usd_per_token,
        output_usd_per_token=usual.output_usd_per_token,
        max_input_tokens=_smallest([_figure(row, prices, "max_input_tokens") for row in rows]),
        lacks=frozenset(c for row in rows for c in _lacking(row, prices, accepts)),
        cached_usd_per_token=usual.cached_usd_per_token,
        caches_marked=any("claude" in _model_of(row).lower() for row in rows),
        usd_per_request=max(_figure(row, {}, "usd_per_request") or 0.0 for row in rows),
        tiers=usual.tiers,
        providers=frozenset(_provider(row, prices) for row in rows),
        regions=frozenset(_region(row) for row in rows),
        labels=frozenset.intersection(*(_labels(row) for row in rows)),
        closed=_closed(name, rows, prices),
        known_by=catalog.llms[row].known_by if row is not None else None,
        services=tuple(_prices_at(rows, prices, tier) for tier in _service_tiers(rows, prices)),
    )
    unpriced = tuple(_missing_prices(rows, prices))
    group = ModelGroup(
        candidate, match, declared is not None, read, like, effort, names=tuple(names), unpriced=unpriced
    )
    by_llm = {} if declared or like else _by_llm(rows, catalog)
    if len(by_llm) > 1:
        alone = (_model_group(name, its, prices, catalog, accepts) for its in by_llm.values())
        group = replace(group, members=tuple(alone))
    return group if row is not None else _as_expected(group, catalog, always_thinks=_always_thinks(rows, prices))


def _efforts_of(rows: Sequence[Row]) -> list[str]:
    """The reasoning efforts that all deployments of a group declare, in rising order: LiteLLM may pick any of them."""
    declared = [set(map(str, _listed_efforts(row))) for row in rows]
    return [effort for effort in REASONING_EFFORTS if all(effort in its for its in declared)]


def _listed_efforts(row: Row) -> list[object]:
    said = _section(row, "model_info").get("embedllm_efforts")
    return said if isinstance(said, list) else [] if said is None else [said]


def _at_effort(group: ModelGroup, effort: str, catalog: Catalog, refused: bool) -> ModelGroup:  # noqa: FBT001 - a fact
    """What a model group is at a reasoning effort that each request sets.

    Where the weights know its LLM at another effort only, that is its stand-in. Where they know none at which it
    reasons, or does not, as at this one, it is known by its kind.
    """
    name, match, stand_in = group.candidate.name, catalog.at_effort(group.names, effort), None
    llm_name = catalog.base_of(match.llm) if match.llm else None
    if match.how == "other effort":
        match, stand_in = Match(match.name, None, "none", match.nearest), match.llm
    elif match.llm is None and group.like is not None:
        stand_in = catalog.at_effort((group.like,), effort).llm
    read = None if match.llm else group.read or _readable(group.names)
    row = catalog.row(match.llm) if match.llm else None
    llm = match.llm
    known_by: str | None = catalog.llms[row].known_by if row is not None else None
    if row is None and (stand_in or read):
        llm_name = llm_name or (read.id.partition(":")[0] if read else name)
        llm, known_by = f"{llm_name}:{effort}", "like" if stand_in else "family"
    takes_none = Exclusion.NO_REASONING_EFFORT if Capability.REASONING_EFFORT in group.candidate.lacks else None
    candidate = replace(
        group.candidate,
        name=f"{name}:{effort}",
        llm=llm,
        row=row,
        closed=group.candidate.closed or takes_none,
        known_by=known_by,
        effort=effort,
        at_effort_of=name,
    )
    return replace(
        group,
        candidate=candidate,
        match=match,
        read=read,
        like=stand_in,
        effort=effort,
        thinks=effort != "none",
        members=tuple(_at_effort(one, effort, catalog, refused) for one in group.members),
        effort_refused=refused,
    )


def _refuses(rows: Sequence[Row], prices: PriceMap, effort: str) -> bool:
    """Whether LiteLLM's price map says of some deployment's LLM that it takes no such effort."""
    entries = (entry for row in rows if _is_shipped(entry := _map_entry(row, prices) or {}))
    of_effort = f"supports_{effort}_reasoning_effort"
    return any(one.get("supports_reasoning") is not True or one.get(of_effort) is False for one in entries)


def _wrong_efforts(name: str, rows: Sequence[Row], listed: Container[str]) -> Iterator[Complaint]:
    common, allowed = _efforts_of(rows), ", ".join(REASONING_EFFORTS)
    for row in rows:
        place = f"model_info.embedllm_efforts of {_model_of(row)} in the model group {name}"
        wrong = [str(one) for one in _listed_efforts(row) if one not in REASONING_EFFORTS]
        missing = [one for one in _listed_efforts(row) if one in REASONING_EFFORTS and one not in common]
        if wrong:
            yield Complaint(place, f"expected a list of {allowed}; found {', '.join(wrong)}", "correct or remove it")
        if missing:
            found = f"other deployments of the group do not declare {', '.join(map(str, missing))}"
            yield Complaint(place, found, "declare the same efforts at each deployment of a model group")
        if common and _effort(row) is not None:
            found = "the deployment sets a reasoning effort itself, beside the one that is chosen for each request"
            yield Complaint(place, found, "take reasoning_effort and thinking out of its litellm_params")
    for effort in common:
        if f"{name}:{effort}" in listed:
            found = f"a model group is called {name}:{effort} already, so this effort of {name} is no candidate"
            place = f"model_info.embedllm_efforts of the model group {name}"
            yield Complaint(place, found, f"give the model group {name}:{effort} another name, or take the effort out")


_PRICE = re.compile(
    r"(?:input|output|cache_read_input)(?:_token)?_cost(?:_per_token)?(?:_above_\d+k_tokens)?|usd_per_request"
)


def _wrong_prices(rows: Sequence[Row]) -> Iterator[Complaint]:
    """Prices that are no numbers of at least 0: they count as unknown."""
    for row in rows:
        for section in ("litellm_params", "model_info"):
            for field, value in _section(row, section).items():
                if _PRICE.fullmatch(field) and value is not None and _amount(value) is None:
                    place = f"{section}.{field} of {_model_of(row)} in the model group {row.get('model_name')}"
                    found = (
                        f"expected a price in USD, at least 0; found {str(value)[:_LONGEST]!r}, which counts as none"
                    )
                    yield Complaint(place, found, "set the price of one token, such as 2.5e-6, or 0 if it is free")


def _missing_prices(rows: Sequence[Row], prices: PriceMap) -> Iterator[str]:
    for row in rows:
        missing = [side for side in ("input", "output") if _price_above(row, prices, side, 0, "") is None]
        if missing:
            fields = " and ".join(f"{side}_cost_per_token" for side in missing)
            yield f"{fields} to litellm_params of {_model_of(row)}"


def _by_llm(rows: Sequence[Row], catalog: Catalog) -> dict[str, list[Row]]:
    """The deployments of each LLM, by its id; those whose LLM nobody can tell are taken for one of the others."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        matches = [catalog.match(name, _effort(row)).llm for name in _llm_names(row)]
        read = _readable(_llm_names(row))
        llm = next((one for one in matches if one), read.id if read else None)
        if llm is not None:
            found.setdefault(llm, []).append(row)
    return found


def _readable(names: Sequence[str]) -> LLMName | None:
    """What the first name says that names an LLM of some vendor, which answers prompts."""
    read = (read_name(name) for name in names)
    return next((one for one in read if one.vendor is not None and not one.base), None)


def _as_expected(group: ModelGroup, catalog: Catalog, *, always_thinks: bool) -> ModelGroup:
    """A group whose LLM the weights do not know, as its stand-in, or else its name, says."""
    candidate, read = group.candidate, group.read
    by_stand_in = group.like is not None and catalog.match(group.like, group.effort).llm is not None
    if group.like is not None and not by_stand_in:
        said = read_name(group.like)
        read = said if said.vendor is not None else read
    if read is None and not by_stand_in:
        return group
    llm = group.read.id if group.read else candidate.name  # its own, so that nothing said of it is learned of another
    llm = llm if group.effort is None else f"{llm.partition(':')[0]}:{group.effort}"
    thinks = always_thinks or group.effort is not None or (read is not None and read.thinking)
    known = replace(candidate, llm=llm, known_by="like" if by_stand_in else "family")
    return replace(group, candidate=known, read=read, thinks=thinks)


def _always_thinks(rows: Sequence[Row], prices: PriceMap) -> bool:
    return all((_map_entry(row, prices) or {}).get("thinking_always_on") is True for row in rows)


def is_paused(row: Row) -> bool:
    """Whether an administrator has paused a deployment."""
    return _section(row, "model_info").get("blocked") is True


def _closed(name: str, rows: Sequence[Row], prices: PriceMap) -> Exclusion | None:
    if all(is_paused(row) for row in rows):
        return Exclusion.BLOCKED
    if "*" in name:  # it stands for names, and is none
        return Exclusion.WILDCARD
    return None if all(_mode(row, prices) in _ANSWERING for row in rows) else Exclusion.MODE


def _mode(row: Row, prices: PriceMap) -> object:
    """What a deployment is for; None where nobody says."""
    stated = _section(row, "model_info").get("mode")
    return stated if stated is not None else (_map_entry(row, prices) or {}).get("mode")


def _llm_names(row: Row) -> list[str]:
    params = _section(row, "litellm_params")
    provider, base, model = (
        params.get("custom_llm_provider"),
        _section(row, "model_info").get("base_model"),
        _model_of(row),
    )
    whole = f"{provider}/{model}" if provider and model and "/" not in model else model
    return [str(name) for name in (base, whole) if name]


def _effort(row: Row) -> str | None:
    """The reasoning effort that a deployment is set to; None where it sets none, or turns reasoning off."""
    params = _section(row, "litellm_params")
    stated = params.get("reasoning_effort")
    if isinstance(stated, Mapping):  # of the Responses endpoint: {"effort": "high", "summary": …}
        stated = stated.get("effort")
    if isinstance(stated, str) and stated.lower() in EFFORTS:
        return stated.lower()
    thinking = params.get("thinking")
    on = isinstance(thinking, Mapping) and thinking.get("type") in {"enabled", "adaptive"}
    return "thinking" if on else None


def _lacking(row: Row, prices: PriceMap, accepts: Accepts) -> set[Capability]:
    lacks = {capability for capability, field in _FLAGS.items() if _denies(row, prices, capability, field)}
    accepted = accepts(row)
    return lacks if accepted is None else lacks | {name for name in PARAMETERS if name not in accepted}


def _denies(row: Row, prices: PriceMap, capability: Capability, field: str) -> bool:
    return _said(row, prices, capability, field) is False


def _said(row: Row, prices: PriceMap, capability: Capability, field: str) -> bool | None:
    """Whether a deployment's LLM can do something; None where nobody says."""
    stated = _section(row, "model_info").get(field)
    if stated is not None:
        return stated is not False
    known = _map_entry(row, prices) or {}
    said = known.get(field)
    if said is not None:
        return said is not False
    # LiteLLM's map leaves a flag out where an LLM lacks it, but for JSON schema also where nobody checked.
    return False if _is_shipped(known) and capability is not Capability.JSON_SCHEMA else None


def unknown_capabilities(rows: Iterable[Row], prices: PriceMap) -> frozenset[Capability]:
    """What nobody says whether the deployments of a model group can do; it excludes them from no request."""
    return frozenset(c for row in rows for c, field in _FLAGS.items() if _said(row, prices, c, field) is None)


def _map_entry(row: Row, prices: PriceMap) -> Row | None:
    """What LiteLLM's map knows of a deployment's LLM; None when it knows nothing.

    LiteLLM's Router adds an entry for every deployment it is given, often an empty one, which must not hide the entry
    that the map was shipped with under another spelling.
    """
    base, model = str(_section(row, "model_info").get("base_model", "")), _model_of(row)
    keys = (base, base.partition("/")[2], model, model.partition("/")[2])
    entries = [entry for key in keys if (entry := prices.get(key))]
    return next((entry for entry in entries if _is_shipped(entry)), entries[0] if entries else None)


def _is_shipped(entry: Row) -> bool:
    """Whether an entry describes an LLM in full; one that LiteLLM's Router added leaves out what it does not know."""
    return bool(entry.get("litellm_provider"))


def _model_of(row: Row) -> str:
    return str(_section(row, "litellm_params").get("model", ""))


def _sources(row: Row, prices: PriceMap) -> tuple[Row, ...]:
    """Where figures of a deployment stand, the first that has one deciding."""
    return _section(row, "litellm_params"), _section(row, "model_info"), _map_entry(row, prices) or {}


def _figure(row: Row, prices: PriceMap, field: str) -> float | None:
    for source in _sources(row, prices):
        value = _amount(source.get(field))
        if value is not None:
            return value
    return None


def _amount(value: object) -> float | None:
    """A number of at least 0, or a text that reads as one: YAML 1.1 takes `3e-6` for a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if 0 <= amount < math.inf else None


def _service_tiers(rows: Sequence[Row], prices: PriceMap) -> list[str]:
    """The tiers of service for which a deployment has prices of its own."""
    names = (name for row in rows for source in _sources(row, prices) for name in source)
    return sorted({found[1] for name in names if (found := _SERVICE.fullmatch(name))})


def _prices_at(rows: Sequence[Row], prices: PriceMap, service_tier: str) -> ServicePrices:
    """Prices of requests that ask for a tier of service, or for none: then a deployment's own setting decides."""
    asked = [(row, service_tier or service_tier_in(_section(row, "litellm_params"))) for row in rows]
    return ServicePrices(
        service_tier,
        _dearest([_price_above(row, prices, "input", 0, tier) for row, tier in asked]),
        _dearest([_price_above(row, prices, "output", 0, tier) for row, tier in asked]),
        _dearest([_price(row, prices, "cache_read_input_token_cost", tier) for row, tier in asked]),
        _tiers(asked, prices),
    )


def _tiers(rows: Sequence[tuple[Row, str]], prices: PriceMap) -> tuple[PriceTier, ...]:
    """Prices of long requests, each the dearest deployment's at that length and tier of service."""
    thresholds = sorted({n for row, _ in rows for n in _thresholds(row, prices)})
    tiers = []
    for above in thresholds:
        both = ([_price_above(row, prices, side, above, tier) for row, tier in rows] for side in ("input", "output"))
        input_price, output_price = map(_dearest, both)
        if input_price is not None and output_price is not None:
            tiers.append(PriceTier(above, input_price, output_price))
    return tuple(tiers)


def _thresholds(row: Row, prices: PriceMap) -> set[int]:
    names = (name for source in _sources(row, prices) for name in source)
    named = {int(found[1]) * 1_000 for name in names if (found := _TIER.fullmatch(name))}
    return named | {above for above in _tiered(row, prices) if above > 0}


def _tiered(row: Row, prices: PriceMap) -> dict[int, Row]:
    """The prices in `tiered_pricing`, by the input tokens from which they hold."""
    listed = next(
        (one["tiered_pricing"] for one in _sources(row, prices) if isinstance(one.get("tiered_pricing"), list)), []
    )
    tiers: dict[int, Row] = {}
    for tier in listed if isinstance(listed, list) else []:
        bounds = tier.get("range") if isinstance(tier, Mapping) else None
        start = _amount(bounds[0]) if isinstance(bounds, list) and bounds else None
        if start is not None:
            tiers[int(start)] = tier
    return tiers


def _price(row: Row, prices: PriceMap, field: str, service_tier: str) -> float | None:
    """A deployment's price at a tier of service; its usual one where the tier has none."""
    price = _figure(row, prices, f"{field}_{service_tier}") if service_tier else None
    return _figure(row, prices, field) if price is None else price


def _price_above(row: Row, prices: PriceMap, side: str, above: int, service_tier: str) -> float | None:
    """A deployment's price of a token in a request just longer than a threshold: of its highest tier up to there."""
    tiered, field = _tiered(row, prices), f"{side}_cost_per_token"
    for threshold in sorted(_thresholds(row, prices), reverse=True):
        if threshold <= above:
            price = _price(row, prices, f"{field}_above_{threshold // 1_000}k_tokens", service_tier)
            price = _amount(tiered.get(threshold, {}).get(field)) if price is None else price
            if price is not None:
                return price
    price = _price(row, prices, field, service_tier)
    return _amount(tiered.get(0, {}).get(field)) if price is None else price


def _provider(row: Row, prices: PriceMap) -> str:
    params = _section(row, "litellm_params")
    prefix, slash, _ = str(params.get("model", "")).partition("/")
    said = params.get("custom_llm_provider") or (
        prefix if slash else (_map_entry(row, prices) or {}).get("litellm_provider")
    )
    return str(said).lower() if said else UNKNOWN_PLACE


def _region(row: Row) -> str:
    params, info = _section(row, "litellm_params"), _section(row, "model_info")
    if info.get("region"):
        return str(info["region"]).lower()
    if profile := _PROFILE.search(str(params.get("model", ""))):
        return UNKNOWN_PLACE if profile[1] in _ANYWHERE else profile[1]
    said = str(next((params[name] for name in _REGIONS if params.get(name)), "")).lower()
    return UNKNOWN_PLACE if said in _ANYWHERE else said


def _labels(row: Row) -> frozenset[str]:
    said = _section(row, "model_info").get("embedllm_labels")
    return frozenset(str(label) for label in said) if isinstance(said, list) else frozenset()


def _dearest(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if len(known) == len(values) else None


def _smallest(values: Sequence[float | None]) -> int | None:
    known = [v for v in values if v is not None]
    return int(min(known)) if known else None


def _section(row: Row, name: str) -> Row:
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}
