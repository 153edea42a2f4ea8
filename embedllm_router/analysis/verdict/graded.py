"""The verdict from graded data: every LLM of the pool answered every prompt, so nothing about the others is guessed."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.replay.batch import CandidateBatch, choose
from embedllm_router.analysis.topics import topic_of
from embedllm_router.analysis.verdict.result import Against, RoutingVerdict, Topic
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.frontier import price_answers
from embedllm_router.evaluation.inputs import Inputs, OnProgress, read_inputs
from embedllm_router.evaluation.verdict import (
    MARGIN,
    MIN_REQUESTS,
    Graded,
    Judgement,
    PoolVerdict,
    compare_choices,
    headline,
    judge,
    judge_choices,
    judge_pool,
    uses_of,
)
from embedllm_router.proxy.preview import applied
from embedllm_router.routing.deployments import ModelGroup, by_candidate
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import Candidate
from embedllm_router.serving.arms import VirtualModel

__all__ = ["ConfiguredPool", "DataOptions", "PoolLLM", "judge_data", "pool_of_config"]

_NEARLY_ALL: Final = 0.9  # of the prompts, or an LLM does not join a pool that was not named
_MIN_TOPIC: Final = 30
_SHOWN: Final = 12  # names in one sentence
_USD_PER_MTOK: Final = 1e6


@dataclass(frozen=True, slots=True)
class PoolLLM:
    """One LLM to choose from.

    Attributes:
        name: What to call it: the model group, or the id.
        llm: Id of its LLM; None where the weights know nothing of it.
        input_usd_per_mtok: USD per million input tokens; None takes the list price.
        output_usd_per_mtok: USD per million output tokens; None likewise.
        others: What else the data may call it.
    """

    name: str
    llm: str | None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    others: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The name, and the LLM where that is called otherwise."""
        return self.name if self.llm in {None, self.name} else f"{self.name} ({self.llm})"


@dataclass(frozen=True, slots=True)
class ConfiguredPool:
    """What a proxy configuration chooses from, and by.

    Attributes:
        weights: Its weights, with a row for each LLM that they know only by what it is called and costs.
        llms: The candidates at their prices.
        model: The virtual model.
    """

    weights: Artifact
    llms: tuple[PoolLLM, ...]
    model: VirtualModel

    def named(self, name: str) -> PoolLLM:
        """The candidate that a model group, or an LLM, is called; one at its list price where it is none."""
        found = (one for one in self.llms if name in {one.name, one.llm})
        return next(found, PoolLLM(name, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """What to judge.

    Attributes:
        pool: The LLMs to choose from; empty takes those with a price that answered nearly all prompts.
        objective: How routing is set; None judges it set for accuracy and set to save.
        baseline: Name of the LLM that was used before; None when it was not said.
        margin: Accuracy that may be lost where routing is cheaper, and the least gain worth having.
        split: "test" or "all", as for `evaluate`; None takes "all" unless the weights learned from the data.
    """

    pool: Sequence[PoolLLM] = ()
    objective: Objective | None = None
    baseline: str | None = None
    margin: float = MARGIN
    split: str | None = None


@dataclass(frozen=True, slots=True)
class _Pool:
    """Prompts that all LLMs answered.

    Attributes:
        names: Of the LLMs.
        graded: Their answers.
        topics: Of each prompt.
        left_out: LLMs that are not judged, by reason.
        n_wanted: LLMs that were asked for; None where nobody named any.
    """

    names: tuple[str, ...]
    graded: Graded
    topics: NDArray[np.str_]
    left_out: Mapping[str, Sequence[PoolLLM]] = field(default_factory=dict)
    n_wanted: int | None = None


def pool_of_config(path: Path, virtual_model: str | None = None, artifact: Path | None = None) -> ConfiguredPool:
    """What the proxy would choose from, LLMs that nobody graded included.

    Args:
        path: The YAML file.
        virtual_model: Which one; None takes the only one.
        artifact: Weights folder; None takes the one that the file names.

    Raises:
        ConfigError: The file is not usable, or does not say which virtual model is meant.
        ArtifactError: The weights cannot be loaded.
    """
    models = read_proxy_config(path).virtual_models
    if virtual_model is None and len(models) > 1:
        raise ConfigError(f"{path} has several virtual models, {', '.join(models)}; name one with --virtual-model.")
    name = virtual_model or next(iter(models))
    if name not in models:
        raise ConfigError(f"{path} has no virtual model {name!r}; it has {', '.join(models)}.")
    served = applied(path, artifact)
    arm, groups = served.arms[name].live, by_candidate(served.groups)
    pool = arm.virtual_model.pool
    llms = (_as_configured(one, groups.get(one.name)) for one in pool.candidates)
    return ConfiguredPool(arm.router.artifact, tuple(llms), arm.virtual_model)


def _as_configured(one: Candidate, group: ModelGroup | None) -> PoolLLM:
    others = group.names if group is not None and one.at_effort_of is None else ()
    llm = None if one.row is None else one.llm
    return PoolLLM(one.name, llm, _per_mtok(one.input_usd_per_token), _per_mtok(one.output_usd_per_token), others)


def _per_mtok(usd: float | None) -> float | None:
    return None if usd is None else usd * _USD_PER_MTOK


def judge_data(
    artifact: Artifact, folders: Sequence[Path], options: DataOptions, on_progress: OnProgress = lambda *_: None
) -> RoutingVerdict:
    """Judges routing on graded data.

    Args:
        artifact: The weights that would route; they are not refitted.
        folders: Data folders, as `ingest` writes them.
        options: What to judge.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The verdict.

    Raises:
        DataError: There are too few prompts that enough LLMs answered.
        ConfigError: An LLM that was named is not there.
    """
    _check_names(artifact, options)
    learned = {source.name for source in artifact.manifest.data}
    seen = any(folder.resolve().name in learned for folder in folders)
    split = options.split or ("test" if seen else "all")
    inputs = read_inputs(
        artifact,
        folders,
        split="test" if split == "test" else "all",
        train_x=False,
        names=_names_in_data(options.pool),
        on_progress=on_progress,
    )
    pool = _lay_out(artifact, inputs, options)
    on_progress("judging", 0, 1)
    found = _judge(pool, options)
    names, used = [folder.resolve().name for folder in folders], _used_before(pool, options)
    return RoutingVerdict(
        basis="graded data",
        where=", ".join(names),
        n=len(pool.graded.labels),
        best=_against(pool, pool.names[found.fixed.column], found.judgement),
        agreement=found.fixed.agreement,
        baseline=None if used is None else _baseline(pool, used, options, found),
        setting=_setting(options.objective, found),
        topics=tuple(_topics(pool, found)),
        llms=uses_of(pool.graded, pool.names),
        notes=(*inputs.warnings, *_notes(pool, found, split, inputs.strangers), *_unused(options, used)),
    )


def _lay_out(artifact: Artifact, inputs: Inputs, options: DataOptions) -> _Pool:
    wanted, left_out = _members(artifact, inputs, options)
    test, ids = inputs.test.matrix, [llm.id for llm in artifact.manifest.llms]
    columns = np.array([ids.index(one.llm or "") for one in wanted], dtype=np.intp)
    rows = np.flatnonzero(test.observed[:, columns].all(axis=1))
    if len(rows) < MIN_REQUESTS:
        raise DataError(
            f"{len(rows)} prompts were answered by all of {', '.join(one.name for one in wanted)}; at least "
            f"{MIN_REQUESTS} are needed. Name fewer LLMs with --llm, or data that more of them answered."
        )
    llms = [_repriced(artifact.manifest.llms[c], one) for c, one in zip(columns.tolist(), wanted, strict=True)]
    block = np.ix_(rows, columns)
    narrow = test.select_prompts(rows).select_llms([ids[column] for column in columns.tolist()])
    costs = price_answers(narrow, llms, inputs.predictions.output_tokens[block])
    names = test.category_names()[rows]
    return _Pool(
        names=tuple(one.name for one in wanted),
        graded=Graded(
            test.labels()[block].astype(np.float64),
            costs.cost,
            inputs.predictions.p_correct[block].astype(np.float64),
            costs.expected_cost,
        ),
        topics=np.array([topic_of(str(name)) for name in names]),
        left_out=left_out,
        n_wanted=len(options.pool) or None,
    )


def _names_in_data(pool: Sequence[PoolLLM]) -> dict[str, str]:
    """The LLM's id by each name that the data may have for it; a model group's own name before all others."""
    ids = {one.llm for one in pool}
    pairs = [(name, one.llm) for one in pool if one.llm for name in one.others]
    pairs += [(one.name, one.llm) for one in pool if one.llm]
    return {name: llm for name, llm in pairs if name not in ids}


def _members(
    artifact: Artifact, inputs: Inputs, options: DataOptions
) -> tuple[list[PoolLLM], dict[str, list[PoolLLM]]]:
    """Which LLMs are judged, and which are not, by reason."""
    observed = inputs.test.matrix.observed
    share = dict(zip((llm.id for llm in artifact.manifest.llms), observed.mean(axis=0).tolist(), strict=True))
    priced = {llm.id for llm in artifact.manifest.llms if llm.input_usd_per_mtok is not None}
    if options.pool:
        chosen = list({one.llm: one for one in reversed(options.pool) if one.llm}.values())[::-1]
        members = [one for one in chosen if share[one.llm or ""]]
        left_out = {
            "the weights know nothing of it": [one for one in options.pool if one.llm is None],
            "no answer in the data": [one for one in chosen if one not in members],
            "the same LLM as another": [one for one in options.pool if one.llm and one not in chosen],
        }
    else:
        full = [PoolLLM(llm, llm) for llm, part in share.items() if part >= _NEARLY_ALL]
        members = [one for one in full if one.llm in priced]
        left_out = {
            "no list price": [one for one in full if one.llm not in priced],
            "labels far below a published score or below guessing are left out": [
                PoolLLM(llm, llm) for llm in _doubted(artifact, inputs) if share[llm] < _NEARLY_ALL
            ],
        }
    left_out = {reason: those for reason, those in left_out.items() if those}
    if len(members) < 2:  # noqa: PLR2004 - routing chooses between two
        raise DataError(_too_few(members, left_out, share, inputs.strangers))
    return members, left_out


def _doubted(artifact: Artifact, inputs: Inputs) -> list[str]:
    """LLMs of which labels on these data tell of formats, in the artifact's order."""
    here = set(inputs.test.matrix.datasets)
    doubted = {labels.llm for labels in artifact.manifest.contradicted if labels.dataset in here}
    return [llm.id for llm in artifact.manifest.llms if llm.id in doubted]


def _too_few(
    members: Sequence[PoolLLM],
    left_out: Mapping[str, Sequence[PoolLLM]],
    share: Mapping[str, float],
    strangers: Sequence[str],
) -> str:
    there = _listed([f"{llm} ({part:.0%})" for llm, part in share.items() if part] + [*strangers]) or "none"
    lacking = "".join(
        f" Not judged, {reason}: {_listed([one.said for one in those])}." for reason, those in left_out.items()
    )
    return (
        f"routing needs at least 2 LLMs that answered the prompts, found {len(members)}.{lacking} The data have "
        f"answers of: {there}. Name LLMs with --llm, file answers under the names of model "
        "groups, or judge fewer data sets at once; `embedllm-router profile` tells the weights of LLMs that they do "
        "not know."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _check_names(artifact: Artifact, options: DataOptions) -> None:
    """Refuses names that stand for nothing before anything is read."""
    ids = [llm.id for llm in artifact.manifest.llms]
    for one in options.pool:
        if one.llm is not None and one.llm not in ids:
            near = difflib.get_close_matches(one.llm, ids, n=3, cutoff=0.4)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise ConfigError(
                f"the weights know no LLM {one.llm!r}.{hint} With --config, --llm takes the names of model groups too; "
                "`embedllm-router profile` tells the weights of an LLM that they do not know."
            )
    named = [name for one in options.pool for name in (one.name, one.llm) if name] or ids
    if options.baseline is not None and options.baseline not in named:
        raise _no_such_baseline(options.baseline, [one.name for one in options.pool] or ids)


def _no_such_baseline(baseline: str, names: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(baseline, names, n=1, cutoff=0.0)
    return ConfigError(
        f"the baseline {baseline!r} is not among the LLMs to judge, {_listed(names)}; did you mean {near[0]!r}?"
    )


def _repriced(llm: LearnedLLM, one: PoolLLM) -> LearnedLLM:
    if one.input_usd_per_mtok is None or one.output_usd_per_mtok is None:
        return llm
    stated = {"input_usd_per_mtok": one.input_usd_per_mtok, "output_usd_per_mtok": one.output_usd_per_mtok}
    return llm.model_copy(update=stated)


def _judge(pool: _Pool, options: DataOptions) -> PoolVerdict:
    if options.objective is None:
        return judge_pool(pool.graded, margin=options.margin)
    chosen = choose(_batch(pool), options.objective)
    return judge_choices(pool.graded, chosen, options.objective.cost_weight, margin=options.margin)


def _batch(pool: _Pool) -> CandidateBatch:
    """The pool as requests whose candidates may all be chosen."""
    graded, shape = pool.graded, pool.graded.labels.shape
    order = np.arange(shape[1], dtype=np.int32)
    nothing = np.full(shape, np.nan)
    return CandidateBatch(
        names=pool.names,
        p_correct=graded.p_correct,
        cost_usd=np.nan_to_num(graded.expected_cost),
        usable=np.ones(shape, dtype=np.bool_),
        position=np.broadcast_to(order, shape),
        waiting=np.zeros(shape),
        usual_p_correct=nothing,
        usual_cost_usd=nothing,
    )


def _against(pool: _Pool, name: str, judgement: Judgement) -> Against:
    said, judged = headline(judgement, name), len(pool.names)
    if pool.n_wanted is not None and judged < pool.n_wanted:
        said = f"{said.removesuffix('.')} (among {judged} of the {pool.n_wanted} LLMs of the pool)."
    return Against(name, judgement, said)


def _used_before(pool: _Pool, options: DataOptions) -> str | None:
    """The baseline by its name in the pool; None without one, or where it is not judged."""
    if options.baseline is None or options.baseline in pool.names:
        return options.baseline
    by_llm = {one.llm: one.name for one in options.pool if one.name in pool.names}
    if options.pool:
        return by_llm.get(options.baseline)
    raise _no_such_baseline(options.baseline, pool.names)


def _unused(options: DataOptions, used: str | None) -> Iterator[str]:
    if options.baseline is not None and used is None:
        yield f"the baseline {options.baseline} is not judged, so routing is not compared with it"


def _baseline(pool: _Pool, name: str, options: DataOptions, found: PoolVerdict) -> Against:
    used = np.full(len(found.chosen), pool.names.index(name), dtype=np.intp)
    weight = options.objective.cost_weight if options.objective else 0.0
    better = compare_choices(pool.graded, found.chosen, used, weight)
    one_setting = found.judgement.for_savings is found.judgement.for_accuracy
    cheaper = None if one_setting else compare_choices(pool.graded, found.saving, used, weight)
    judgement = judge(better, cheaper, margin=options.margin)
    return _against(pool, name, judgement)


def _setting(objective: Objective | None, found: PoolVerdict) -> str:
    if objective is None:
        if found.saving_weight is None:
            return "for accuracy (cost weight 0)"
        return f"for accuracy (cost weight 0), and to save (cost weight about {found.saving_weight:.3g})"
    if objective.max_accuracy_drop is not None:
        return f"max_accuracy_drop {objective.max_accuracy_drop:g}"
    if objective.min_p_correct is not None:
        return f"min_p_correct {objective.min_p_correct:g}"
    return f"cost weight {objective.cost_weight:g}"


def _topics(pool: _Pool, found: PoolVerdict) -> Iterator[Topic]:
    counted = Counter(pool.topics.tolist())
    for topic, n in counted.most_common():
        if n >= _MIN_TOPIC:
            rows = pool.topics == topic
            graded = pool.graded.select(rows)
            yield Topic(topic, n, compare_choices(graded, found.chosen[rows], found.fixed.picked[rows]))


def _notes(pool: _Pool, found: PoolVerdict, split: str, strangers: Sequence[str]) -> Iterator[str]:
    for reason, those in pool.left_out.items():
        yield f"not judged, {reason}: {_listed([one.said for one in those])}"
    if strangers:
        yield f"left out, names in the data that stand for no LLM known here: {_listed(strangers)}"
    if not pool.graded.priced:
        yield "some LLMs have no price: accuracy alone was judged"
    if found.fixed.agreement < 1:
        yield (
            f"{pool.names[found.fixed.column]} is the best single LLM on all prompts; picked on other prompts than it "
            f"is judged on, it is the one for {found.fixed.agreement:.0%} of them"
        )
    if split == "test":
        yield "these are the prompts that training set aside"
