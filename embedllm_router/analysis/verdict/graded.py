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
from embedllm_router.analysis.replay.change import read_new_config
from embedllm_router.analysis.topics import topic_of
from embedllm_router.analysis.verdict.result import Against, RoutingVerdict, Topic
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.frontier import price_answers
from embedllm_router.evaluation.inputs import Inputs, OnProgress, read_inputs
from embedllm_router.evaluation.verdict import (
    MARGIN,
    MIN_REQUESTS,
    Graded,
    PoolVerdict,
    compare_choices,
    headline,
    judge,
    judge_choices,
    judge_pool,
    uses_of,
)
from embedllm_router.routing.policy import Objective
from embedllm_router.serving.arms import VirtualModel

__all__ = ["DataOptions", "PoolLLM", "judge_data", "pool_of_config"]

_NEARLY_ALL: Final = 0.9  # of the prompts, or an LLM does not join a pool that was not named
_MIN_TOPIC: Final = 30
_USD_PER_MTOK: Final = 1e6


@dataclass(frozen=True, slots=True)
class PoolLLM:
    """One LLM to choose from.

    Attributes:
        name: What to call it: the model group, or the id.
        llm: Id of the learned LLM.
        input_usd_per_mtok: USD per million input tokens; None takes the list price.
        output_usd_per_mtok: USD per million output tokens; None likewise.
    """

    name: str
    llm: str
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None


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
    """

    names: tuple[str, ...]
    graded: Graded
    topics: NDArray[np.str_]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def pool_of_config(path: Path, virtual_model: str | None, weights: Artifact) -> tuple[list[PoolLLM], VirtualModel]:
    """The LLMs of a proxy configuration with its prices.

    Args:
        path: The YAML file.
        virtual_model: Which one; None takes the only one.
        weights: Which know the LLMs.

    Returns:
        The candidates that the weights know, and the virtual model.

    Raises:
        ConfigError: The file is not usable, or does not say which virtual model is meant.
    """
    models = read_new_config(path, weights).virtual_models
    if virtual_model is None and len(models) > 1:
        raise ConfigError(f"{path} has several virtual models, {', '.join(models)}; name one with --virtual-model.")
    name = virtual_model or next(iter(models))
    if name not in models:
        raise ConfigError(f"{path} has no virtual model {name!r}; it has {', '.join(models)}.")
    known = [
        PoolLLM(one.name, one.llm, _per_mtok(one.input_usd_per_token), _per_mtok(one.output_usd_per_token))
        for one in models[name].pool.candidates
        if one.llm is not None
    ]
    return known, models[name]


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
    learned = {source.name for source in artifact.manifest.data}
    seen = any(folder.resolve().name in learned for folder in folders)
    split = options.split or ("test" if seen else "all")
    inputs = read_inputs(
        artifact, folders, split="test" if split == "test" else "all", train_x=False, on_progress=on_progress
    )
    pool = _lay_out(artifact, inputs, options)
    on_progress("judging", 0, 1)
    found = _judge(pool, options)
    names = [folder.resolve().name for folder in folders]
    return RoutingVerdict(
        basis="graded data",
        where=", ".join(names),
        n=len(pool.graded.labels),
        best=_against(pool.names[found.fixed.column], found),
        agreement=found.fixed.agreement,
        baseline=_baseline(pool, options, found),
        setting=_setting(options.objective, found),
        topics=tuple(_topics(pool, found)),
        llms=uses_of(pool.graded, pool.names),
        notes=(*inputs.warnings, *_notes(pool, found, split)),
    )


def _lay_out(artifact: Artifact, inputs: Inputs, options: DataOptions) -> _Pool:
    wanted, left_out = _members(artifact, inputs, options)
    test, ids = inputs.test.matrix, [llm.id for llm in artifact.manifest.llms]
    columns = np.array([ids.index(one.llm) for one in wanted], dtype=np.intp)
    rows = np.flatnonzero(test.observed[:, columns].all(axis=1))
    if len(rows) < MIN_REQUESTS:
        raise DataError(
            f"{len(rows)} prompts were answered by all of {', '.join(one.name for one in wanted)}; at least "
            f"{MIN_REQUESTS} are needed. Name fewer LLMs with --llm, or data that more of them answered."
        )
    llms = [_repriced(artifact.manifest.llms[c], one) for c, one in zip(columns.tolist(), wanted, strict=True)]
    block = np.ix_(rows, columns)
    narrow = test.select_prompts(rows).select_llms([one.llm for one in wanted])
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
    )


def _members(artifact: Artifact, inputs: Inputs, options: DataOptions) -> tuple[list[PoolLLM], dict[str, list[str]]]:
    """Which LLMs are judged, and which are not, by reason."""
    observed = inputs.test.matrix.observed
    share = dict(zip((llm.id for llm in artifact.manifest.llms), observed.mean(axis=0).tolist(), strict=True))
    priced = {llm.id for llm in artifact.manifest.llms if llm.input_usd_per_mtok is not None}
    if options.pool:
        chosen = list({one.llm: one for one in reversed(options.pool)}.values())[::-1]
        _check_known(chosen, share)
        left_out = {"no answer in the data": [one.name for one in chosen if not share[one.llm]]}
        members = [one for one in chosen if share[one.llm]]
    else:
        full = [llm for llm, part in share.items() if part >= _NEARLY_ALL]
        members = [PoolLLM(llm, llm) for llm in full if llm in priced]
        left_out = {"no list price": [llm for llm in full if llm not in priced]}
    if len(members) < 2:  # noqa: PLR2004 - routing chooses between two
        there = ", ".join(f"{llm} ({part:.0%})" for llm, part in share.items() if part) or "none"
        raise DataError(
            f"routing needs at least 2 LLMs that answered the prompts, found {len(members)}. The data have answers "
            f"of: {there}. Name LLMs with --llm, or judge fewer data sets at once."
        )
    return members, {reason: names for reason, names in left_out.items() if names}


def _check_known(pool: Sequence[PoolLLM], share: Mapping[str, float]) -> None:
    for one in pool:
        if one.llm not in share:
            near = difflib.get_close_matches(one.llm, share, n=3, cutoff=0.4)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise ConfigError(f"the weights know no LLM {one.llm!r}.{hint}")


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


def _against(name: str, found: PoolVerdict) -> Against:
    return Against(name, found.judgement, headline(found.judgement, name))


def _baseline(pool: _Pool, options: DataOptions, found: PoolVerdict) -> Against | None:
    if options.baseline is None:
        return None
    if options.baseline not in pool.names:
        near = difflib.get_close_matches(options.baseline, pool.names, n=1, cutoff=0.0)
        raise ConfigError(
            f"the baseline {options.baseline!r} is not among the LLMs judged, {', '.join(pool.names)}; "
            f"did you mean {near[0]!r}?"
        )
    used = np.full(len(found.chosen), pool.names.index(options.baseline), dtype=np.intp)
    weight = options.objective.cost_weight if options.objective else 0.0
    better = compare_choices(pool.graded, found.chosen, used, weight)
    one_setting = found.judgement.for_savings is found.judgement.for_accuracy
    cheaper = None if one_setting else compare_choices(pool.graded, found.saving, used, weight)
    judgement = judge(better, cheaper, margin=options.margin)
    return Against(options.baseline, judgement, headline(judgement, options.baseline))


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


def _notes(pool: _Pool, found: PoolVerdict, split: str) -> Iterator[str]:
    for reason, names in pool.left_out.items():
        yield f"not judged, {reason}: {', '.join(names)}"
    if not pool.graded.priced:
        yield "some LLMs have no price: accuracy alone was judged"
    if found.fixed.agreement < 1:
        yield (
            f"{pool.names[found.fixed.column]} is the best single LLM on all prompts; picked on other prompts than it "
            f"is judged on, it is the one for {found.fixed.agreement:.0%} of them"
        )
    if split == "test":
        yield "these are the prompts that training set aside"
