"""The verdict as values, the same from graded data and from records."""

from dataclasses import dataclass

from embedllm_router.evaluation.verdict import Comparison, Judgement, LlmUse

__all__ = ["Against", "RoutingVerdict", "Topic"]


@dataclass(frozen=True, slots=True)
class Against:
    """Routing against one LLM for everything.

    Attributes:
        llm: The LLM.
        judgement: The answer.
        headline: The answer in one sentence.
        known: Whether the answer rests on verdicts for nearly all requests; else `unknown_because` says what lacks.
        unknown_because: Why it cannot be known, and what to switch on; None where it is known.
        supported: Share of the requests of which verdicts can say something, in [0, 1]; 1 for graded data.
        n_pairs: Requests that both answered and one judge scored, where the answer rests on these; else 0.
    """

    llm: str
    judgement: Judgement
    headline: str
    known: bool = True
    unknown_because: str | None = None
    supported: float = 1.0
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Topic:
    """Routing on one topic, against the best fixed LLM of all topics.

    Attributes:
        topic: In plain words.
        n: Requests.
        comparison: The figures.
    """

    topic: str
    n: int
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingVerdict:
    """Whether to route.

    Attributes:
        basis: "graded data" or "records".
        where: Which data or records.
        n: Requests that were judged.
        best: Against the best fixed LLM, picked on other requests than it is judged on.
        agreement: Share of the requests for which that pick is the LLM named, in [0, 1].
        baseline: Against the LLM that was used before; None when it was not said.
        setting: How routing is set where it is judged, in words.
        topics: By topic, most requests first.
        llms: What each LLM is for.
        notes: What a reader must know, a sentence each.
    """

    basis: str
    where: str
    n: int
    best: Against
    agreement: float
    baseline: Against | None
    setting: str
    topics: tuple[Topic, ...]
    llms: tuple[LlmUse, ...]
    notes: tuple[str, ...]
