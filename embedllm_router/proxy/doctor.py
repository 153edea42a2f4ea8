"""Whether a proxy configuration will do what its author wants, found out in seconds, without starting the proxy.

Every finding has a remedy. What needs the network is only reached for, never changed; of keys only the names of the
environment variables are said.
"""

import difflib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import litellm
import numpy as np

from embedllm_router._files import why_nothing_fits
from embedllm_router.artifact.manifest import PROBE
from embedllm_router.config.process import RedisAddress, StoreSettings
from embedllm_router.config.settings import RouterSettings, load_config, read_litellm_redis, read_proxy_config
from embedllm_router.errors import ConfigError, EmbedLLMRouterError
from embedllm_router.prediction.loading import PromptEncoder
from embedllm_router.prediction.scorer import usual_embeddings
from embedllm_router.proxy.preview import applied, deployments_of
from embedllm_router.proxy.serve import check_port
from embedllm_router.records.reader.source import open_source
from embedllm_router.routing.deployments import ModelGroup, Row, by_candidate, through_wildcards, unknown_capabilities
from embedllm_router.routing.pool import Candidate, Capability, Exclusion
from embedllm_router.serving.arms import REMEDIES, Arm, excluded_as_not_graded, price_remedy, reasons_of, why_not_judge
from embedllm_router.serving.encoder_queue import EncoderQueue
from embedllm_router.serving.snapshot import Served

__all__ = ["Checkup", "Finding", "Patient", "check"]

Level = Literal["error", "warning", "info"]

_REFERENCE: Final = "os.environ/"
_PER_MTOK: Final = 1e6
_INPUT_TOKENS: Final = 100
_N_USUAL: Final = 256
_COST_WEIGHTS: Final = (0.0, *np.geomspace(0.1, 1e6, 71).tolist())
_CONNECT_S: Final = 3.0
_LITELLM_WAITS_S: Final = 6_000
_SHOWN = (Capability.VISION, Capability.AUDIO, Capability.PDF, Capability.TOOLS, Capability.JSON_SCHEMA)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is the matter.

    Attributes:
        level: "error" where requests would fail or not be routed, "warning" where something is lost, else "info".
        check: What was checked.
        subject: What it is about: a model group, a virtual model, a setting.
        found: What was found.
        remedy: What to do about it.
    """

    level: Level
    check: str
    subject: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A candidate of some virtual model.

    Attributes:
        name: The model group, or one at a reasoning effort.
        llm: The LLM behind it; None when nobody knows.
        how: How it was recognised: "exact", "spelling", "alias", "newest release", "family", "like", "other effort" or
            "unknown".
        input_usd_per_mtok: Price of a million input tokens in USD; None when unknown.
        output_usd_per_mtok: Price of a million output tokens in USD; None when unknown.
        price_from: "deployment" or "price map"; None when unknown.
        max_input_tokens: Context window; None when unknown.
        can: What it is known to be able to do besides text.
        unknown: What nobody says whether it can do; requests that need it are sent to it all the same.
        p_correct: Mean p_correct on usual prompts; None when nothing is expected of it.
        excluded: Why it can never be chosen; None when it can.
    """

    name: str
    llm: str | None
    how: str
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    price_from: str | None
    max_input_tokens: int | None
    can: tuple[str, ...]
    unknown: tuple[str, ...]
    p_correct: float | None
    excluded: str | None


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found.

    Attributes:
        config: The file.
        artifact: Id of its weights; None when they could not be loaded.
        patients: Every candidate of its virtual models.
        findings: The worst first.
    """

    config: str
    artifact: str | None
    patients: tuple[Patient, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing would make requests fail or keep them from being routed."""
        return all(one.level != "error" for one in self.findings)


def check(config: Path, host: str = "127.0.0.1", port: int = 4000) -> Checkup:
    """Checks a proxy configuration.

    Args:
        config: The YAML file.
        host: Address the proxy shall listen on.
        port: Port it shall listen on.

    Returns:
        What was found; nothing is changed, and no LLM is asked.
    """
    litellm.suppress_debug_info = True  # or it prints advice on providers into our output
    try:
        settings, whole = read_proxy_config(config), load_config(config)
    except ConfigError as error:
        return Checkup(
            str(config), None, (), (_of_error("configuration", str(config), error, "correct the file or its path"),)
        )
    findings = [
        *_of_litellm(settings, whole),
        *_of_the_store(settings.store),
        *_of_the_state(settings, config),
        *_of_the_port(host, port),
    ]
    try:
        served = applied(config)
    except EmbedLLMRouterError as error:
        remedy = "mend what it says, or name other weights in artifact; without it, the shipped ones decide"
        found = (_of_error("weights", str(settings.artifact or "shipped"), error, remedy), *findings)
        return Checkup(str(config), None, (), _worst_first(found))
    arms = [one.live for one in served.arms.values()]
    named = [*_used(arms), *(arm.virtual_model.settings.default for arm in arms)]
    rows = deployments_of(config)
    rows += through_wildcards(rows, named)
    findings += [*_of_groups(served, arms), *_of_virtual_models(served, arms), *_of_deployments(arms, rows, whole)]
    findings += [*_of_settings(served, arms, config), *_of_the_encoder(settings, arms[0].router.encoder)]
    return Checkup(str(config), arms[0].router.artifact_id, _patients(served, arms, rows), _worst_first(findings))


def _worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    order: tuple[Level, ...] = ("error", "warning", "info")
    return tuple(sorted(findings, key=lambda one: order.index(one.level)))


def _of_error(what: str, subject: str, error: Exception, remedy: str) -> Finding:
    return Finding("error", what, subject, str(error).removesuffix("."), remedy)


def _of_litellm(settings: RouterSettings, whole: Mapping[str, Any]) -> Iterator[Finding]:
    """What LiteLLM's own settings do to routing."""
    general, router = _section(whole, "general_settings"), _section(whole, "router_settings")
    names = {str(row.get("model_name")) for row in whole.get("model_list") or [] if isinstance(row, Mapping)}
    aliases = router.get("model_group_alias")
    listed = set(aliases) if isinstance(aliases, Mapping) else set()
    for name in settings.virtual_models:
        if name in names:
            found = "a model group has the name of a virtual model, which hides it"
            yield Finding("warning", "names", name, found, "give one of them another name")
        elif name not in listed:
            found = "clients do not see it under /v1/models, and it stops working when the plugin is taken out"
            remedy = f"add {name}: {settings.virtual_models[name].default} to router_settings.model_group_alias"
            yield Finding("info", "names", name, found, remedy)
    if not general.get("master_key") and not os.environ.get("LITELLM_MASTER_KEY"):
        found = "there is no master key: `litellm` refuses to start or asks for no keys, `serve` makes one for each run"
        yield Finding("warning", "keys", "LITELLM_MASTER_KEY", found, "set it in the environment")
    if general.get("background_health_checks"):
        found = "LiteLLM sends every deployment a paid request at each interval, to reasoning LLMs too"
        remedy = (
            "turn it off or set health_check_interval high; /embedllm/readyz says for nothing whether routing works"
        )
        yield Finding("warning", "health checks", "general_settings.background_health_checks", found, remedy)


def _of_the_encoder(settings: RouterSettings, encoder: PromptEncoder) -> Iterator[Finding]:
    """Whether prompts that a transformer or an endpoint embeds are embedded."""
    if settings.encoder.endpoint is not None and not isinstance(encoder, EncoderQueue):
        found = "no prompt is sent there: the weights hold a static encoder"
        remedy = "name weights of a sentence transformer in artifact, or take encoder.endpoint out"
        yield Finding("warning", "encoder", settings.encoder.endpoint, found, remedy)
    if settings.encoder.folder is not None and not isinstance(encoder, EncoderQueue):
        found = "nothing is read there: the weights hold a static encoder"
        remedy = "name weights of a sentence transformer in artifact, such as weights/mpnet, or take encoder.folder out"
        yield Finding("warning", "encoder", str(settings.encoder.folder), found, remedy)
    if isinstance(encoder, EncoderQueue):
        try:
            encoder.encode(PROBE)
        except EmbedLLMRouterError as error:
            remedy = "start what encoder.endpoint names; until then the defaults answer"
            yield _of_error("encoder", encoder.spec.source, error, remedy)


def _of_the_store(store: StoreSettings) -> Iterator[Finding]:
    if not store.enabled:
        found = "no records are kept, so there is nothing to explain, replay or learn from"
        yield Finding("info", "store", "store.enabled", found, "set it to true")
    elif store.url is None:
        yield from _of_folder("store", store.folder, "records would be lost")
    else:
        try:
            open_source(store.place).rows("SELECT 1 AS one")
        except (EmbedLLMRouterError, ImportError) as error:
            yield _of_error("store", "store.url", error, "start the database, or correct the URL")


def _of_the_state(settings: RouterSettings, config: Path) -> Iterator[Finding]:
    yield from _of_folder("state", settings.state.folder, "budgets and sessions would not survive a restart")
    named = settings.state.redis_url
    try:
        redis = read_litellm_redis(config) if named is None else RedisAddress(url=named.get_secret_value())
    except ConfigError as error:
        yield _of_error("state", "redis", error, "set the variable, or take the reference out")
        return
    if redis is None or ":" not in redis.location:  # a socket file is looked at when it is used
        return
    if not any(_answers(node) for node in redis.location.split(",")):
        found = f"Redis at {redis.location} does not answer"
        yield Finding("error", "state", "redis", found, "start it, or correct its address")


def _answers(place: str) -> bool:
    address, _, port = place.rpartition(":")
    try:
        socket.create_connection((address, int(port)), _CONNECT_S).close()
    except OSError:
        return False
    return True


def _of_folder(what: str, folder: Path, consequence: str) -> Iterator[Finding]:
    place = folder.expanduser().absolute()
    problem = why_nothing_fits(place)
    if problem is not None:
        found = f"{problem}, so {consequence}"
        yield Finding(
            "error", what, str(place), found, f"make room or set the rights there, or set {what}.path to another"
        )


def _of_the_port(host: str, port: int) -> Iterator[Finding]:
    try:
        check_port(host, port)
    except ConfigError as error:
        yield Finding("warning", "port", str(port), str(error), "stop what listens there, or serve on another --port")


def _of_groups(served: Served, arms: Sequence[Arm]) -> Iterator[Finding]:
    """How each candidate's LLM and price are known, and whether it takes requests."""
    choices = by_candidate(served.groups)
    bases = (
        ("family", "vendor, family, date and price"),
        ("like", "the LLM each is said to be like"),
        ("other effort", "the same LLM at another reasoning effort"),
    )
    for how, by in bases:
        names = [name for name in _used(arms) if name in choices and _how(choices[name]) == how]
        if names:
            found = f"the weights do not know {'it' if len(names) == 1 else 'them'}; predicted by {by}"
            yield Finding("info", "LLM", ", ".join(names), found, REMEDIES.get(how, REMEDIES["family"]))
    for name in _used(arms):
        group = choices.get(name)
        if group is None:
            continue  # reported with the virtual model
        candidate = group.candidate
        if candidate.closed is Exclusion.WILDCARD:
            found = "it stands for many names, so it is no candidate itself"
            yield Finding("info", "deployment", name, found, REMEDIES["wildcard"])
            continue
        yield from _of_llm(group)
        if candidate.closed is Exclusion.NO_REASONING_EFFORT:
            found = "LiteLLM knows that the LLM takes no reasoning_effort, and would refuse the request"
            yield Finding("warning", "effort", name, found, REMEDIES["effort"])
        elif group.effort_refused:
            found = f"LiteLLM's price map says that the LLM takes no reasoning_effort {candidate.effort!r}"
            remedy = f"take {candidate.effort} out of model_info.embedllm_efforts, unless its provider does take it"
            yield Finding("warning", "effort", name, found, remedy)
        if candidate.standing_exclusion is Exclusion.PRICE_UNKNOWN:
            found = "neither the deployment nor LiteLLM's price map has its price, so it is never chosen"
            yield Finding("warning", "price", name, found, price_remedy(group))
        elif candidate.closed is not None and candidate.closed is not Exclusion.NO_REASONING_EFFORT:
            found = f"it takes no request: {candidate.closed}"
            yield Finding("warning", "deployment", name, found, "resume it, or name the candidates and leave it out")


def _of_llm(group: ModelGroup) -> Iterator[Finding]:
    """How the LLM behind one candidate is known."""
    candidate, how = group.candidate, _how(group)
    if group.like is not None and group.match.llm is None and how not in {"like", "other effort"}:
        found = f"embedllm_like names {group.like!r}, which the weights do not know"
        remedy = "correct it; `embedllm-router inspect` lists the LLMs they know"
        yield Finding("warning", "LLM", candidate.name, found, remedy)
    if group.members:
        llms = ", ".join(str(one.candidate.llm) for one in group.members)
        found = f"its deployments are of several LLMs, {llms}; it is predicted as the worst, {candidate.llm}"
        yield Finding("warning", "LLM", candidate.name, found, REMEDIES["mixed"])
    if how == "unknown":
        near = f"; nearest known: {', '.join(group.match.nearest)}" if group.match.nearest else ""
        found = f"nothing is known of {group.match.name!r}, so it is never chosen{near}"
        yield Finding("warning", "LLM", candidate.name, found, REMEDIES["unknown"])
    elif how == "newest release":
        found = f"{group.match.name!r} names no release; it is taken for {candidate.llm!r}"
        yield Finding("info", "LLM", candidate.name, found, "say which in model_info.embedllm if it is another")


def _of_virtual_models(served: Served, arms: Sequence[Arm]) -> Iterator[Finding]:
    for arm in arms:
        model = arm.virtual_model
        if model.settings.default not in served.groups:
            found = f"its default {model.settings.default!r} is no model group: what routing cannot decide fails"
            remedy = f"set default to one of {', '.join(served.groups)}" if served.groups else "fill in model_list"
            yield Finding("error", "default", model.name, found, remedy)
        for candidate in model.pool.candidates:
            if candidate.group not in served.groups:
                found = f"{candidate.name!r} is no model group"
                yield Finding("error", "candidates", model.name, found, REMEDIES["absent"])
        baseline = model.settings.baseline
        if baseline is not None and baseline not in model.pool.names:
            found = f"its baseline {baseline!r} is none of its candidates: no saving is counted against it"
            near = difflib.get_close_matches(baseline, model.pool.names, n=1)
            remedy = f"set baseline to {near[0]}" if near else f"set baseline to one of {', '.join(model.pool.names)}"
            yield Finding("error", "baseline", model.name, found, remedy)
        yield from _of_judges(served, arm)
        if not model.pool.usable.any():
            found = "no candidate can be chosen, so the default answers every request"
            reasons = ", ".join(f"{name}: {reason}" for name, reason in reasons_of(model.pool).items())
            found = f"{found} ({reasons})"
            remedy = REMEDIES["excluded"] if excluded_as_not_graded(model) else REMEDIES["none"]
            yield Finding("error", "candidates", model.name, found, remedy)
        elif (broken := _broken_by_default(model.settings.default, arm)) is not None:
            found = f"its default breaks its own rule on {broken}, so where routing cannot decide the answer is a 400"
            yield Finding("warning", "default", model.name, found, "choose a default that keeps the rules")
        for name in _never_chosen(arm):
            found = f"no cost weight chooses it for any of {_N_USUAL} usual prompts: others are better or cheaper"
            known_by = model.pool.candidates[model.pool.index[name]].known_by
            remedy = "take it out of candidates, or keep it as a fallback"
            if known_by in {"family", "like"}:
                found += f"; its p_correct is a guess, since it is known by {known_by} only"
                remedy = "keep it until embedllm-router profile has asked and graded it"
            yield Finding("info", "candidates", f"{model.name}: {name}", found, remedy)


def _of_judges(served: Served, arm: Arm) -> Iterator[Finding]:
    """Judges that judge nothing; each virtual model has them once, whatever its arms."""
    model, judging = arm.virtual_model, arm.virtual_model.settings.judging
    for judge in judging.judges if judging.share > 0 and arm.name == "live" else ():
        reason = why_not_judge(judge, model.settings.rules, served.groups)
        if reason is not None:
            remedy = "name another model group in judging.judges, or correct this one"
            yield Finding(
                "error", "judge", f"{model.name}: {judge}", f"it judges nothing: {reason.removesuffix('?')}", remedy
            )


def _of_settings(served: Served, arms: Sequence[Arm], config: Path) -> Iterator[Finding]:
    """Values in the candidates' deployments that cannot be used."""
    for name in _groups_of(arms):
        for one in served.groups[name].complaints if name in served.groups else ():
            yield Finding("error", "settings", f"{config}: {one.place}", one.found, one.remedy)


def _of_deployments(arms: Sequence[Arm], rows: Sequence[Row], whole: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys, retries and time-outs of the deployments behind candidates."""
    used = set(_groups_of(arms)) | {arm.virtual_model.settings.default for arm in arms}
    behind = [row for row in rows if row.get("model_name") in used]
    yield from _of_references(behind)
    for row in behind:
        yield from _of_keys(row)
        yield from _of_azure(row)
    router, of_litellm = _section(whole, "router_settings"), _section(whole, "litellm_settings")
    retries = router.get("num_retries", of_litellm.get("num_retries"))
    alone = sorted(name for name in used if sum(row.get("model_name") == name for row in behind) == 1)
    if alone and (retries is None or (isinstance(retries, int) and retries > 0)):
        said = "LiteLLM's default of 2 retries" if retries is None else f"num_retries: {retries}"
        found = f"with {said}, a failing LLM of one deployment is asked again before the next best: {', '.join(alone)}"
        level: Level = "info" if retries is None else "warning"
        remedy = "set router_settings.num_retries: 0, or give these model groups several deployments"
        yield Finding(level, "retries", "router_settings.num_retries", found, remedy)
    timed = router.get("timeout") or of_litellm.get("request_timeout")
    waiting = sorted({str(row["model_name"]) for row in behind if not _section(row, "litellm_params").get("timeout")})
    if not timed and waiting:
        found = f"without a time-out LiteLLM waits {_LITELLM_WAITS_S:,} s for an LLM before it asks the next best"
        yield Finding("warning", "time-outs", "router_settings.timeout", found, "set it to what your clients wait for")


def _of_references(rows: Sequence[Row]) -> Iterator[Finding]:
    """Environment variables that deployments refer to and that are not set."""
    missing: dict[str, list[str]] = {}
    for row in rows:
        for value in _section(row, "litellm_params").values():
            if isinstance(value, str) and value.startswith(_REFERENCE):
                variable = value.removeprefix(_REFERENCE)
                if not os.environ.get(variable):
                    missing.setdefault(variable, []).append(str(row.get("model_name")))
    for variable, names in missing.items():
        found = f"it is not set in this environment, and {', '.join(dict.fromkeys(names))} cannot be called without it"
        yield Finding("error", "keys", variable, found, "set it where the proxy runs")


def _of_keys(row: Row) -> Iterator[Finding]:
    params, name = _section(row, "litellm_params"), str(row.get("model_name"))
    if params.get("api_key") or params.get("api_base") or params.get("litellm_credential_name"):
        return
    provider, model = params.get("custom_llm_provider"), str(params.get("model", ""))
    whole = f"{provider}/{model}" if provider and "/" not in model else model
    missing = litellm.validate_environment(whole).get("missing_keys") or []
    stated = {field.upper() for field in params}  # aws_region_name and the like
    absent = [one for one in missing if one not in stated and one != "OLLAMA_API_BASE"]  # it has a default
    if absent:
        found = f"no api_key is set, and neither is {', '.join(absent)} in this environment"
        yield Finding("warning", "keys", name, found, "set them where the proxy runs, unless it has a role of its own")


def _of_azure(row: Row) -> Iterator[Finding]:
    params, info = _section(row, "litellm_params"), _section(row, "model_info")
    on_azure = str(params.get("model", "")).startswith("azure/") or params.get("custom_llm_provider") == "azure"
    if on_azure and not (info.get("base_model") or info.get("embedllm")):
        found = "an Azure deployment has a name of your own, from which its LLM is only guessed"
        name = str(row.get("model_name"))
        yield Finding("warning", "LLM", name, found, "set model_info.base_model, such as azure/gpt-4o-2024-08-06")


def _never_chosen(arm: Arm) -> list[str]:
    """Candidates that no cost weight chooses for any of many usual prompts; the default stays for other reasons."""
    model, scorer = arm.virtual_model, arm.router.scorer
    pool, chosen = model.pool, set[int]()
    if pool.usable.sum() < 2:  # noqa: PLR2004 - one candidate has no rival
        return []
    weights = np.array(_COST_WEIGHTS)[:, None]
    for embedding in usual_embeddings(arm.router.artifact.decoder, _N_USUAL):
        scores = scorer.score(embedding)
        p_correct = pool.lower_bound(scores.p_correct[pool.rows].astype(np.float64))
        cost = pool.expected_cost(_INPUT_TOKENS, scores.output_tokens[pool.rows].astype(np.float64), {})
        utility = np.where(pool.usable, p_correct - weights * np.nan_to_num(cost), -np.inf)
        chosen |= set(np.unique(utility.argmax(axis=1)).tolist())
    spared = chosen | {pool.index.get(model.settings.default, -1)}
    return [name for i, name in enumerate(pool.names) if pool.usable[i] and i not in spared]


def _broken_by_default(default: str, arm: Arm) -> Exclusion | None:
    pool = arm.virtual_model.pool
    return pool.candidates[pool.index[default]].broken_rule(arm.virtual_model.rules) if default in pool.index else None


def _patients(served: Served, arms: Sequence[Arm], rows: Sequence[Row]) -> tuple[Patient, ...]:
    choices = by_candidate(served.groups)
    return tuple(_patient(choices[name], arms, rows) for name in _used(arms) if name in choices)


def _patient(group: ModelGroup, arms: Sequence[Arm], rows: Sequence[Row]) -> Patient:
    candidate = group.candidate
    average = arms[0].router.average.p_correct
    own = [row for row in rows if row.get("model_name") == candidate.group]
    unknown = unknown_capabilities(own, litellm.model_cost)
    not_lacking = [one for one in _SHOWN if one not in candidate.lacks]
    return Patient(
        name=candidate.name,
        llm=candidate.llm,
        how=_how(group),
        input_usd_per_mtok=_per_mtok(candidate.input_usd_per_token),
        output_usd_per_mtok=_per_mtok(candidate.output_usd_per_token),
        price_from=_price_from(candidate, own),
        max_input_tokens=candidate.max_input_tokens,
        can=tuple(str(one) for one in not_lacking if one not in unknown),
        unknown=tuple(str(one) for one in not_lacking if one in unknown),
        p_correct=None if candidate.row is None else round(float(average[candidate.row]), 4),
        excluded=str(reason) if (reason := candidate.standing_exclusion) is not None else None,
    )


def _price_from(candidate: Candidate, rows: Sequence[Row]) -> str | None:
    if candidate.input_usd_per_token is None or candidate.output_usd_per_token is None:
        return None
    stated = all(
        any(_section(row, place).get("input_cost_per_token") is not None for place in ("litellm_params", "model_info"))
        for row in rows
    )
    return "deployment" if stated else "price map"


def _how(group: ModelGroup) -> str:
    known_by = group.candidate.known_by
    if known_by is None:
        return "unknown"
    if known_by == "like" and group.candidate.effort is not None:
        return "other effort"
    return known_by if group.match.llm is None else group.match.how


def _used(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for name in arm.virtual_model.pool.names))


def _groups_of(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for name in arm.virtual_model.pool.groups))


def _per_mtok(usd_per_token: float | None) -> float | None:
    return None if usd_per_token is None else round(usd_per_token * _PER_MTOK, 6)


def _section(mapping: Mapping[str, Any] | Row, name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}
