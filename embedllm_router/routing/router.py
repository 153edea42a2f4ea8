"""Request → Decision: the five steps of the request path, composed and timed.

    messages.read_body → encoder.encode → scorer.score → policy.decide

This is the whole router; LiteLLM is one of its callers. It holds no state that a request changes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.ood_score import NOT_HEDGED, Hedge
from embedllm_router.prediction.prompt_encoder import encoder_id, load_encoder
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.prediction.static_encoder import EncodedPrompt
from embedllm_router.routing.decision import NO_CONDITIONS, Conditions, Decision, Objective, Request
from embedllm_router.routing.policy import decide
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.routing.prompt import Prompt, read_body

__all__ = ["Router", "Routing", "Timing"]

_TOKENS_PER_MTOK = 1e6


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
class Routing:
    """A decision, for what and how fast.

    Attributes:
        prompt: What was routed.
        decision: The ranking and everything that was weighed.
        timing_ms: How long it took.
        artifact_id: Which weights decided.
        prompt_embedding: float32 (d_prompt,), as the encoder gave it; None for a prompt without text.
        hedge: How novel the prompt is, and how far predictions were hedged for it.
    """

    prompt: Prompt
    decision: Decision
    timing_ms: Timing
    artifact_id: str
    prompt_embedding: NDArray[np.float32] | None = None
    hedge: Hedge = NOT_HEDGED


class Router:
    """Routes prompts with a loaded artifact.

    Args:
        artifact: A loaded weights folder.

    Raises:
        ArtifactError: The artifact does not fit this version.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.catalog = Catalog(artifact.manifest.llms)
        self.encoder_id = encoder_id(artifact.manifest)
        self._encoder = load_encoder(artifact)
        self._scorer = Scorer.from_artifact(artifact)
        self._everyone = CandidatePool([self._list_candidate(llm) for llm in artifact.manifest.llms])

    @classmethod
    def load(cls, path: Path | str | None = None) -> "Router":
        """Loads a weights folder, by default the one that ships with the package.

        Raises:
            ArtifactError: The folder is missing, damaged or does not fit this version.
        """
        return cls(load_artifact(Path(path) if path else default_artifact_path()))

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text, as `route` does."""
        return self._encoder.encode(text)

    def pool(self, llms: Sequence[str] | None = None) -> CandidatePool:
        """Candidates at their list prices.

        Args:
            llms: Names of learned LLMs, as `Catalog.match` understands them; None takes all.

        Raises:
            ConfigError: A name matches no learned LLM.
        """
        if llms is None:
            return self._everyone
        ids = [self.catalog.match(name).llm or name for name in llms]
        rows = [self.catalog.row(llm) for llm in dict.fromkeys(ids)]
        return CandidatePool([self._everyone.candidates[row] for row in rows])

    def route(  # noqa: PLR0913 - what is asked, by whom, and how it is to be answered
        self,
        prompt: str | Prompt,
        *,
        cost_weight: float = 0.0,
        objective: Objective | None = None,
        pool: CandidatePool | None = None,
        conditions: Conditions = NO_CONDITIONS,
        of_traffic: float = 0.0,
    ) -> Routing:
        """Decides which candidate shall answer.

        Args:
            prompt: Plain text, or what `messages.read_body` made of a request.
            cost_weight: λ, the accuracy one gives up per US dollar; finite, at least 0.
            objective: What the best candidate is, when a cost weight alone does not say it; replaces `cost_weight`.
            pool: The candidates; None takes every learned LLM at its list price.
            conditions: What else bears on the decision, such as the only candidates allowed.
            of_traffic: How far the traffic it belongs to demands that predictions are hedged, in [0, 1].

        Returns:
            The decision with every candidate's numbers.

        Raises:
            ArtifactError: The weights predict no finite number for this prompt.
        """
        read = read_body({"prompt": prompt}) if isinstance(prompt, str) else prompt
        started = time.perf_counter()
        embedding = self.encode(read.text).prompt_embedding if read.text.strip() else None
        encoded = time.perf_counter()
        scores = self._scorer.score(embedding, of_traffic)
        _check_finite(scores)
        scored = time.perf_counter()
        aim = objective or Objective(cost_weight)
        request = Request(aim, read.input_tokens, read.max_output_tokens, read.needs, conditions)
        decision = decide(pool or self._everyone, scores, request)
        decided = time.perf_counter()
        timing = Timing((encoded - started) * 1e3, (scored - encoded) * 1e3, (decided - scored) * 1e3)
        return Routing(read, decision, timing, self.artifact.id, embedding, scores.hedge)

    def _list_candidate(self, llm: LearnedLLM) -> Candidate:
        return Candidate(
            name=llm.id,
            llm=llm.id,
            row=self.catalog.row(llm.id),
            input_usd_per_token=_per_token(llm.input_usd_per_mtok),
            output_usd_per_token=_per_token(llm.output_usd_per_mtok),
        )


def _per_token(usd_per_mtok: float | None) -> float | None:
    return None if usd_per_mtok is None else usd_per_mtok / _TOKENS_PER_MTOK


def _check_finite(scores: Scores) -> None:
    if not (np.isfinite(scores.p_correct).all() and np.isfinite(scores.output_tokens).all()):
        raise ArtifactError("the weights predict NaN or infinity for this prompt; retrain or restore them")
