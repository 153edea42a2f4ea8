"""A configuration's deployments as LLMs to be asked, and what asking them costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.names import read_name
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError
from embedllm_router.profiling.judging import JUDGE_TOKENS, judge_messages
from embedllm_router.profiling.learning import (
    Contestant,
    Embeddings,
    contestants,
    expected_lengths,
)
from embedllm_router.profiling.tasks import Task
from embedllm_router.proxy.call import bound_usd, cost_usd
from embedllm_router.proxy.parameters import accepted_parameters
from embedllm_router.proxy.preview import deployments_of
from embedllm_router.routing.deployments import (
    ModelGroup,
    PriceMap,
    Row,
    by_candidate,
    read_model_groups,
    through_wildcards,
)
from embedllm_router.routing.pool import Candidate, Exclusion
from embedllm_router.training.add_llm import Population

__all__ = ["Pool", "Quote", "quote", "quote_judges", "read_pool"]

_CHARS_PER_TOKEN: Final = 4
_VERDICT: Final = 10
_THOUGHTFUL_VERDICT: Final = 400
"""Tokens of a verdict: one JSON object, after reasoning where the judge reasons."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Who is asked.

    Attributes:
        rows: Deployments for LiteLLM's Router, the judges' among them.
        contestants: LLMs to be asked.
        judges: Model groups that judge, the first one first.
        candidates: Contestants and judges with their prices, by model group; one that is asked at several reasoning
            efforts is at each of them, too.
        left_out: Why other model groups are not asked.
    """

    rows: tuple[Row, ...]
    contestants: tuple[Contestant, ...]
    judges: tuple[str, ...]
    candidates: Mapping[str, Candidate]
    left_out: Mapping[str, str]

    def judge_of(self, name: str) -> str:
        """The judge of an LLM's answers: the first one that is not itself, where there is another."""
        return next((judge for judge in self.judges if judge != self.candidates[name].group), self.judges[0])

    def judges_itself(self, name: str) -> bool:
        """Whether an LLM judges its own answers."""
        return bool(self.judges) and self.judge_of(name) == self.candidates[name].group


def read_pool(config: Path, artifact: Artifact, prices: PriceMap, names: Sequence[str], judges: Sequence[str]) -> Pool:
    """Reads who is to be asked.

    Args:
        config: LiteLLM's configuration.
        artifact: The weights that shall know the LLMs.
        prices: LiteLLM's price map.
        names: Model groups to ask, at each reasoning effort that they declare, or one effort of them, as `gpt-5:low`;
            empty asks all.
        judges: Model groups, or names of models for LiteLLM.

    Raises:
        ConfigError: A name is no model group, no LLM can be asked, or a judge has no price.
    """
    rows = deployments_of(config)
    rows += through_wildcards(rows, [*names, *judges])
    listed = {str(row.get("model_name")) for row in rows}
    rows += [{"model_name": judge, "litellm_params": {"model": judge}} for judge in judges if judge not in listed]
    groups = read_model_groups(rows, prices, Catalog(artifact.manifest.llms), accepted_parameters)
    by_name: dict[str, tuple[ModelGroup, ...]] = {name: (group,) for name, group in by_candidate(groups).items()}
    by_name |= {name: group.at_efforts or (group,) for name, group in groups.items() if name in listed}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ConfigError(f"{config} has no model group {unknown[0]!r}; it has {', '.join(sorted(by_name)) or 'none'}.")
    wanted = {one.candidate.name: one for name in (names or _in_order(rows, listed)) for one in by_name[name]}.values()
    asked, left_out = dict[str, Contestant](), dict[str, str]()
    for one in contestants([*wanted]):
        reason = _why_not(one.group.candidate)
        if reason is None and one.llm in asked:
            reason = f"it is the same LLM as {asked[one.llm].name}"
        if reason is None:
            asked[one.llm] = one
        else:
            left_out[one.name] = reason
    if not asked:
        said = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ConfigError(f"{config} has no LLM that can be asked. {said or 'Its model_list is empty'}.")
    unpriced = [judge for judge in judges if bound_usd(groups[judge].candidate, 1, 1, 1) is None]
    if unpriced and unpriced[0] not in listed:
        raise ConfigError(
            f"the judge {unpriced[0]} is neither a model group of {config}, which has {', '.join(sorted(listed))}, nor "
            "a model that LiteLLM has a price of. Name one of these."
        )
    if unpriced:
        raise ConfigError(f"the judge {unpriced[0]} has no known price, so no budget holds: {_PRICE_IT}.")
    candidates = {name: group.candidate for name, group in {**groups, **by_candidate(groups)}.items()}
    return Pool(tuple(rows), tuple(asked.values()), tuple(judges), candidates, left_out)


def _in_order(rows: Sequence[Row], listed: set[str]) -> list[str]:
    """The configuration's own model groups; a judge that is one of them is asked too."""
    return list(dict.fromkeys(name for row in rows if (name := str(row.get("model_name"))) in listed))


_PRICE_IT: Final = "set input_cost_per_token and output_cost_per_token in its litellm_params; 0 where it is free"


_CLOSED: Final = {
    Exclusion.NO_REASONING_EFFORT: "LiteLLM sends it no reasoning_effort; where the LLM does reason, set "
    "allowed_openai_params: [reasoning_effort] in its litellm_params"
}


def _why_not(candidate: Candidate) -> str | None:
    if candidate.closed is not None:
        return _CLOSED.get(candidate.closed, str(candidate.closed))
    return f"it has no known price, so no budget holds: {_PRICE_IT}" if bound_usd(candidate, 1, 1, 1) is None else None


@dataclass(frozen=True, slots=True)
class Quote:
    """What asking one LLM is expected to take.

    Attributes:
        name: Model group.
        llm: The LLM behind it.
        known_by: What the weights know it by; None when they do not.
        calls: Prompts it is asked.
        input_tokens: Of all of them.
        output_tokens: Expected of all answers.
        usd: Expected of all.
        most_usd: The most that all can cost.
    """

    name: str
    llm: str
    known_by: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    most_usd: float


def quote(  # noqa: PLR0913, PLR0917 - whom, what and how
    artifact: Artifact, pool: Pool, tasks: Sequence[Task], prompts: Embeddings, n: int, max_tokens: int
) -> list[Quote]:
    """Reckons what asking takes, before anything is asked; what judges take is in `quote_judges`.

    Args:
        artifact: The weights, which expect lengths.
        pool: Who is asked.
        tasks: What may be asked.
        prompts: Their embeddings.
        n: Prompts of each LLM.
        max_tokens: Most tokens of an answer.
    """
    calls = min(n, len(tasks))
    n_bytes = sum(task.n_bytes for task in tasks) / len(tasks)
    n_messages = max(len(task.messages) for task in tasks)
    input_tokens = math.ceil(n_bytes / _CHARS_PER_TOKEN)
    quotes = []
    for one in pool.contestants:
        length = min(expected_tokens(artifact, one, prompts), float(max_tokens))
        candidate = one.group.candidate
        usd = cost_usd(candidate, input_tokens, math.ceil(length)) or 0.0
        most = sum(bound_usd(candidate, task.n_bytes, n_messages, max_tokens) or 0.0 for task in tasks) / len(tasks)
        quotes.append(
            Quote(
                one.name,
                one.llm,
                candidate.known_by,
                calls,
                calls * input_tokens,
                round(calls * length),
                calls * usd,
                calls * most,
            )
        )
    return quotes


def quote_judges(
    artifact: Artifact, pool: Pool, tasks: Sequence[Task], quotes: Sequence[Quote], max_tokens: int
) -> list[Quote]:
    """Reckons what judges take.

    Args:
        artifact: The weights, which know who reasons before it answers.
        pool: Who is asked, and who judges.
        tasks: What may be asked.
        quotes: What asking takes.
        max_tokens: Most tokens of an answer, which is the judge's to read.

    Returns:
        One of each judge that has anything to judge.
    """
    judged = [judge_messages(task, "") for task in tasks if task.grader.type == "judge"]
    if not judged:
        return []
    n_bytes = round(sum(len(one.content.encode()) for its in judged for one in its) / len(judged))
    made = []
    for judge in dict.fromkeys(pool.judges):
        whose = [one for one in quotes if pool.judge_of(one.name) == judge]
        n_asked = sum(one.calls for one in whose)
        calls, candidate = round(n_asked * len(judged) / len(tasks)), pool.candidates[judge]
        if not calls:
            continue
        read = n_bytes // _CHARS_PER_TOKEN + sum(one.output_tokens for one in whose) // n_asked
        said = _THOUGHTFUL_VERDICT if _thinks(artifact, candidate) else _VERDICT
        usd = cost_usd(candidate, read, said) or 0.0
        most = bound_usd(candidate, n_bytes + _CHARS_PER_TOKEN * max_tokens, 2, JUDGE_TOKENS) or 0.0
        llm = candidate.llm or judge
        made.append(Quote(judge, llm, candidate.known_by, calls, calls * read, calls * said, calls * usd, calls * most))
    return made


def _thinks(artifact: Artifact, candidate: Candidate) -> bool:
    if candidate.row is not None:
        return artifact.manifest.llms[candidate.row].thinking
    return read_name(candidate.llm or candidate.name).thinking


def expected_tokens(artifact: Artifact, one: Contestant, prompts: Embeddings) -> float:
    """Mean tokens that an LLM's answers are expected to have."""
    lengths = Population.of(artifact, "length", thinking=one.group.thinks)
    columns = lengths.columns(list(prompts))
    row = expected_lengths(artifact, lengths, one)
    return float(np.exp(np.clip(columns @ row, 0.0, 30.0)).mean())
