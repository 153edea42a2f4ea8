"""Loaded weights: `Router.load().route("…")` decides in plain Python as the proxy does.

router = Router.load()
router.route("How many primes are there below 100?", cost_weight=20).decision.chosen
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.prediction.loading import PromptEncoder, encoder_id, load_encoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.static_encoder import EncodedPrompt
from embedllm_router.routing.decision import NO_CONDITIONS, Conditions, Objective, Request
from embedllm_router.routing.pipeline import NO_STATE, Policy, RequestState, Routing, decide
from embedllm_router.routing.pool import Average, Candidate, CandidatePool
from embedllm_router.routing.prompt import Prompt, read_body
from embedllm_router.routing.tie_breaking import average_performance, pool_with_averages

__all__ = ["NEAR_TIE_MARGIN", "Router"]

NEAR_TIE_MARGIN = 0.005
"""Utility that may be lost so that near ties go to the same LLM each time, unless something else is asked for."""

_TOKENS_PER_MTOK = 1e6


class Router:
    """Routes prompts with a loaded artifact. It holds no state that a request changes.

    Args:
        artifact: A loaded weights folder.
        encoder: The prompt encoder it was trained with; None builds what the artifact holds or names.

    Attributes:
        artifact: The weights.
        artifact_id: Which weights they are.
        catalog: The learned LLMs by name.
        encoder: Embeds prompts.
        encoder_id: Which encoder it is.
        scorer: Scores embedded prompts.

    Raises:
        ArtifactError: The artifact does not fit this version.
    """

    def __init__(self, artifact: Artifact, encoder: PromptEncoder | None = None) -> None:
        self.artifact = artifact
        self.artifact_id = artifact.id
        self.catalog = Catalog(artifact.manifest.llms)
        self.encoder = encoder or load_encoder(artifact)
        self.encoder_id = encoder_id(artifact.manifest)
        self.scorer = Scorer.from_artifact(artifact)

    @classmethod
    def load(
        cls, path: Path | str | None = None, encoder_of: Callable[[Artifact], PromptEncoder] = load_encoder
    ) -> "Router":
        """Loads a weights folder, by default the one that ships with the package.

        Args:
            path: The folder.
            encoder_of: Builds the prompt encoder that weights hold or name.

        Raises:
            ArtifactError: The folder is missing, damaged or does not fit this version.
        """
        artifact = load_artifact(Path(path) if path else default_artifact_path())
        return cls(artifact, encoder_of(artifact))

    def extended(self, llms: Sequence[LearnedLLM], rows: Mapping[str, NDArray[np.floating]]) -> "Router":
        """The same weights with more LLMs, which names are not matched to.

        Args:
            llms: What a manifest would say of them.
            rows: Their rows of every tensor that has one row per LLM, by its name.

        Returns:
            Another router; its rows of the learned LLMs are the same.
        """
        manifest = self.artifact.manifest
        tensors = self.artifact.decoder
        added = {name: np.concatenate([tensors[name], its.astype(np.float32)]) for name, its in rows.items()}
        other = copy(self)
        other.__dict__.pop("average", None)
        other.artifact = replace(
            self.artifact,
            manifest=manifest.model_copy(update={"llms": (*manifest.llms, *llms)}),
            decoder={**tensors, **added},
        )
        other.scorer = Scorer.from_artifact(other.artifact)
        return other

    @cached_property
    def average(self) -> Average:
        """How each learned LLM does on average on prompts such as it was learned from; computed once, in some 40 ms."""
        return average_performance(self.artifact)

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text, as `route` does."""
        return self.encoder.encode(text)

    def pool(self, llms: Sequence[str] | None = None) -> CandidatePool:
        """Candidates at their list prices.

        Args:
            llms: Names of learned LLMs, as `Catalog.match` understands them; None takes all.

        Raises:
            ConfigError: A name matches no learned LLM.
        """
        if llms is None:
            return self._every_llm
        ids = [self.catalog.match(name).llm or name for name in llms]
        rows = [self.catalog.row(llm) for llm in dict.fromkeys(ids)]
        return pool_with_averages([self._every_llm.candidates[row] for row in rows], self.average)

    def route(  # noqa: PLR0913 - what is asked, by whom, and how it is to be answered
        self,
        prompt: str | Prompt,
        *,
        cost_weight: float = 0.0,
        objective: Objective | None = None,
        pool: CandidatePool | None = None,
        conditions: Conditions = NO_CONDITIONS,
        policy: Policy | None = None,
        state: RequestState = NO_STATE,
    ) -> Routing:
        """Decides which candidate shall answer, as the proxy does for the same prompt, settings and state.

        Args:
            prompt: Plain text, or what `prompt.read_body` made of a request.
            cost_weight: λ, the accuracy one gives up per US dollar; finite, at least 0. Near ties within
                `NEAR_TIE_MARGIN` go to the LLM that is best on average.
            objective: What the best candidate is, when a cost weight alone does not say it; replaces `cost_weight`.
            pool: The candidates; None takes every learned LLM at its list price.
            conditions: What else bears on the decision, such as the only candidates allowed.
            policy: What a virtual model decides by; replaces `pool`.
            state: The caller's drift, its session, its budgets.

        Returns:
            The decision with every candidate's numbers.

        Raises:
            ArtifactError: The weights predict no finite number for this prompt.
        """
        read = read_body({"prompt": prompt}) if isinstance(prompt, str) else prompt
        aim = objective or Objective(cost_weight, near_tie_margin=NEAR_TIE_MARGIN)
        size = read.input_tokens, read.max_output_tokens
        request = Request(aim, *size, read.needs, conditions, read.n_answers, read.efforts, read.service_tier)
        return decide(self, read, request, policy or Policy(pool or self._every_llm), state)

    @cached_property
    def _every_llm(self) -> CandidatePool:
        return pool_with_averages([self._list_candidate(llm) for llm in self.catalog.llms], self.average)

    def _list_candidate(self, llm: LearnedLLM) -> Candidate:
        return Candidate(
            name=llm.id,
            llm=llm.id,
            row=self.catalog.row(llm.id),
            input_usd_per_token=_per_token(llm.input_usd_per_mtok),
            output_usd_per_token=_per_token(llm.output_usd_per_mtok),
            known_by=llm.known_by,
        )


def _per_token(usd_per_mtok: float | None) -> float | None:
    return None if usd_per_mtok is None else usd_per_mtok / _TOKENS_PER_MTOK
