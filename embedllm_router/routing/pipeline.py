"""The one order of events from a prompt to a decision.

    encode → score → rank by the objective → guard → budget → near ties → out-of-distribution fallback → session →
    exploration

The proxy's hook, its canary and its shadow, `embedllm-router route`, `Router.route` in plain Python and the reference
that replays are tested against all decide here: the same prompt, request, settings and state give the same choice
everywhere. Nothing in here keeps state. What a request changes, such as what a budget has spent, its caller writes down
afterwards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.ood_score import NO_SHRINKAGE, Shrinkage
from embedllm_router.prediction.scorer import Scores
from embedllm_router.prediction.static_encoder import EncodedPrompt
from embedllm_router.routing.budget import NO_PACE, Pace, paced, without_dear
from embedllm_router.routing.decision import NO_EXPLORATION, Decision, Exploration, Reason, Request
from embedllm_router.routing.exploration import explore
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import CandidatePool
from embedllm_router.routing.prompt import Prompt
from embedllm_router.routing.session import PinnedSession, keep_session
from embedllm_router.routing.tie_breaking import break_ties

__all__ = ["NO_STATE", "Embedded", "Policy", "Predictor", "RequestState", "Routing", "Timing", "decide"]


class Encoder(Protocol):
    """Prompt text → prompt embedding."""

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text."""


class PromptScorer(Protocol):
    """Prompt embedding → predictions for every learned LLM."""

    def score(self, prompt_embedding: NDArray[np.float32] | None, caller_shrinkage: float = 0.0) -> Scores:
        """Scores one prompt."""


class Predictor(Protocol):
    """Loaded weights; `Router` is one."""

    @property
    def encoder(self) -> Encoder:
        """Embeds prompts."""

    @property
    def scorer(self) -> PromptScorer:
        """Scores embedded prompts."""

    @property
    def artifact_id(self) -> str:
        """Which weights they are."""

    @property
    def encoder_id(self) -> str:
        """Which encoder they have."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a virtual model decides by, the same for each of its requests.

    Attributes:
        pool: The candidates.
        default: Name of the candidate that prompts far from all that was learned go to; None without one.
        max_ood_score: OOD score above which the default answers, in [0, 1]; None sends nothing to it.
        exploration: How another candidate than the best is tried now and then.
    """

    pool: CandidatePool
    default: str | None = None
    max_ood_score: float | None = None
    exploration: Exploration = NO_EXPLORATION


@dataclass(frozen=True, slots=True)
class RequestState:
    """What is known when a request is decided that is neither in it nor in the settings.

    Attributes:
        caller_shrinkage: How far the drift of its caller demands that predictions are shrunk, in [0, 1].
        session: The LLM its session is pinned to; None when it may go to any.
        pace: What budgets and guards ask, given the decision by the objective alone.
        seed: Seed of the draw that exploration makes, at least 0; None explores nothing.
    """

    caller_shrinkage: float = 0.0
    session: PinnedSession | None = None
    pace: Callable[[Decision], Pace] | None = None
    seed: int | None = None


NO_STATE = RequestState()
"""Nothing is known besides the request: no caller, no session, no budget, no exploration."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds spent in each step of a decision."""

    encode: float
    score: float
    decide: float

    @property
    def total(self) -> float:
        """All steps together."""
        return self.encode + self.score + self.decide


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedding that was made before the decision.

    Attributes:
        prompt_embedding: float32 (d_prompt,), by the encoder of the deciding weights; None for a prompt without text.
        encode_ms: How long it took, waiting included.
    """

    prompt_embedding: NDArray[np.float32] | None
    encode_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Routing:
    """A decision, with what it was made from.

    Attributes:
        prompt: What was routed.
        decision: The ranking and everything that was weighed.
        timing_ms: How long each step took.
        artifact_id: Which weights decided.
        encoder_id: Which prompt encoder they have.
        request: What was asked; a budget may have raised the cost weight of `decision.request`.
        pace: What budgets and guards asked.
        prompt_embedding: float32 (d_prompt,), as the encoder gave it; None for a prompt without text.
        shrinkage: How far from training prompts the prompt is, and how far its predictions were shrunk.
    """

    prompt: Prompt
    decision: Decision
    timing_ms: Timing
    artifact_id: str
    encoder_id: str
    request: Request
    pace: Pace = NO_PACE
    prompt_embedding: NDArray[np.float32] | None = None
    shrinkage: Shrinkage = NO_SHRINKAGE


def decide(  # noqa: PLR0913, PLR0917 - who predicts, what is asked, how it is to be decided
    predictor: Predictor,
    prompt: Prompt,
    request: Request,
    policy: Policy,
    state: RequestState = NO_STATE,
    embedded: Embedded | None = None,
) -> Routing:
    """Decides which candidate shall answer.

    Args:
        predictor: The weights.
        prompt: What `prompt.read_body` made of a request.
        request: Its objective, size and conditions.
        policy: What the virtual model decides by.
        state: What else is known at this moment.
        embedded: The prompt's embedding; None makes it here.

    Returns:
        The decision; its ranking is empty when every candidate is excluded.

    Raises:
        ArtifactError: The weights predict no finite number for this prompt.
    """
    embedded = embedded or _embed(predictor.encoder, prompt)
    encoded = time.perf_counter()
    scores = predictor.scorer.score(embedded.prompt_embedding, state.caller_shrinkage)
    _check_finite(scores)
    scored = time.perf_counter()
    by_objective = rank_candidates(policy.pool, scores, request)
    pace = NO_PACE if state.pace is None or not by_objective.ranking else state.pace(by_objective)
    decision = _after_objective(by_objective, pace, scores.shrinkage, policy, state)
    decided = time.perf_counter()
    return Routing(
        prompt=prompt,
        decision=decision,
        timing_ms=Timing(embedded.encode_ms, (scored - encoded) * 1e3, (decided - scored) * 1e3),
        artifact_id=predictor.artifact_id,
        encoder_id=predictor.encoder_id,
        request=request,
        pace=pace,
        prompt_embedding=embedded.prompt_embedding,
        shrinkage=scores.shrinkage,
    )


def _embed(encoder: Encoder, prompt: Prompt) -> Embedded:
    started = time.perf_counter()
    embedding = encoder.encode(prompt.text).prompt_embedding if prompt.text.strip() else None
    return Embedded(embedding, (time.perf_counter() - started) * 1e3)


def _after_objective(
    by_objective: Decision, pace: Pace, shrinkage: Shrinkage, policy: Policy, state: RequestState
) -> Decision:
    """The steps that may put another candidate first than the objective alone does, in their one order."""
    decision = by_objective if pace.dear_above is None else _guarded(by_objective, pace.dear_above, state.session)
    decision = _within_budget(decision, pace)
    decision = break_ties(decision)
    if policy.max_ood_score is not None:
        decision = _default_if_out_of_distribution(decision, shrinkage, policy)
    if state.session is not None:
        decision = keep_session(decision, state.session)
    if policy.exploration is not NO_EXPLORATION and state.seed is not None:
        rng = np.random.default_rng(state.seed)
        decision = explore(decision, policy.exploration, rng, widening=shrinkage.widening)
    return decision


def _guarded(decision: Decision, times_median: float, session: PinnedSession | None) -> Decision:
    """Leaves dear candidates out, but for one that the request is tied to: no other could go on."""
    keep = decision.best_of(session.name) if session is not None and session.bond is not None else None
    return without_dear(decision, times_median, keep)


def _within_budget(decision: Decision, pace: Pace) -> Decision:
    if pace is NO_PACE:
        return decision
    kept = paced(decision, pace)
    return kept if kept.ranking[:1] == decision.ranking[:1] else replace(kept, instead=Reason.WITHIN_BUDGET)


def _default_if_out_of_distribution(decision: Decision, shrinkage: Shrinkage, policy: Policy) -> Decision:
    """Gives a prompt too far from all that was learned to the default, where the default could be chosen."""
    if policy.max_ood_score is None or shrinkage.ood_score is None or shrinkage.ood_score <= policy.max_ood_score:
        return decision
    default = decision.best_of(policy.default or "")
    return decision if default is None else decision.putting_first(default, Reason.OUT_OF_DISTRIBUTION)


def _check_finite(scores: Scores) -> None:
    if not (np.isfinite(scores.p_correct).all() and np.isfinite(scores.output_tokens).all()):
        raise ArtifactError("the weights predict NaN or infinity for this prompt; retrain or restore them")
