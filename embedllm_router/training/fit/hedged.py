"""Trains the parts of a decoder with a hedge, whose formula is in `prediction.scorer`.

It knows the ability of each LLM and the difficulty of a prompt before its networks learn what remains. One network
reads all columns of a prompt embedding. The other, the broad one, reads those columns that mean the same whatever was
trained on, and learns beside a free intercept for every LLM on every data set, so that it holds only what tells prompts
of one set apart. In both, an LLM of few answers has the row that is expected of its kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedllm_router.artifact.kin import FEATURES, LLMKind
from embedllm_router.training.fit.ability import Ability, count_cells, fit_ability
from embedllm_router.training.fit.decoder import Decoder, EpochRecord, Head, KinHead, LearningData, Progress, fold
from embedllm_router.training.fit.difficulty import Difficulty, LabelledPrompts, fit_difficulty
from embedllm_router.training.fit.encoding import BroadColumns
from embedllm_router.training.fit.facts import UNRECORDED_TOKENS
from embedllm_router.training.fit.fitting import Checkpoint, Copies, Device
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.team import Team
from embedllm_router.training.fit.training import (
    Session,
    correctness_lesson,
    length_head,
    standardisation,
    start_session,
    teach,
)

__all__ = ["BROAD_DEVIATION", "EXAM_DEVIATION", "HedgedParts", "KnownLLMs", "reference_llms", "train_hedged"]

EXAM_DEVIATION: Final = 6.0
"""Standardised inputs are clipped to this."""
BROAD_DEVIATION: Final = 4.0
"""Those of the broad network and of difficulty, to this: they shall extrapolate less."""
_MIN_SCALE: Final = 1e-4
_TINY: Final = 1e-6
_MANY_LABELS: Final = 1000
_FREQUENT_VENDORS: Final = 8
_BROAD_SEED: Final = 500


@dataclass(frozen=True, slots=True)
class KnownLLMs:
    """The LLMs of a matrix, and what is known of each besides its answers.

    Attributes:
        ids: Canonical ids, in the order of the columns.
        kinds: One for each.
    """

    ids: tuple[str, ...]
    kinds: tuple[LLMKind, ...]


@dataclass(frozen=True, slots=True)
class HedgedParts:
    """The trained parts of a decoder with a hedge, not yet weighed against each other.

    Attributes:
        decoder: Standardisation, the network of all columns and the length network, without ability or difficulty.
        broad: The broad network; reads `columns`, clipped to `BROAD_DEVIATION`.
        columns: Places of those columns in a prompt embedding, int64 (n_columns,).
        difficulty: Of a prompt, from the same inputs.
        ability: Of every LLM.
        reference: bool (n_llms,), the LLMs of many labels.
        features: Names of what the rows of ungraded LLMs are expected from; see `artifact.kin.FEATURES`.
        kin_embeddings: Their embeddings, float32 (n_features, d_llm).
        kin_broad_embeddings: Their broad embeddings, float32 (n_features, broad_d_llm).
        history: One record per epoch.
    """

    decoder: Decoder
    broad: Head
    columns: NDArray[np.int64]
    difficulty: Difficulty
    ability: Ability
    reference: NDArray[np.bool_]
    features: tuple[str, ...]
    kin_embeddings: NDArray[np.float32]
    kin_broad_embeddings: NDArray[np.float32]
    history: tuple[EpochRecord, ...]

    @torch.no_grad()
    def predict(
        self, x: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What the parts say of prompts.

        Args:
            x: Prompt embeddings, float32 (n_prompts, d_prompt).

        Returns:
            Of the network of all columns and of the broad one, float32 (n_prompts, n_llms) each; difficulty, float32
            (n_prompts,); and the standardised inputs, float32 (n_prompts, d_prompt).
        """
        inputs = torch.from_numpy(self.inputs(x))
        narrow = _narrowed(inputs, torch.from_numpy(self.columns))
        exam, broad = self.decoder.correctness(inputs), self.broad(narrow)
        return exam.numpy(), broad.numpy(), self.difficulty.of(narrow.numpy()), inputs.numpy()

    @torch.no_grad()
    def inputs(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prompt embeddings standardised and clipped, of the same shape."""
        standardised: NDArray[np.float32] = self.decoder.standardise(torch.from_numpy(x)).numpy()
        return standardised

    def tensors(self, broad_weight: float) -> dict[str, NDArray[np.generic]]:
        """The tensors of decoder.safetensors, as `artifact.weights.decoder_shapes` lists them.

        Args:
            broad_weight: Share of the broad network; that of the other is multiplied into its rows.
        """
        rest, broad, exam = np.float32(1 - broad_weight), self.broad, self.decoder.correctness
        tensors = self.decoder.tensors()
        tensors["llm_bias"] = rest * exam.llm_bias.detach().numpy() + self.ability.mean
        tensors["llm_embeddings"] = rest * exam.llm_embeddings.detach().numpy()
        network = {f"broad_network.{name}": t.numpy() for name, t in broad.layers.state_dict().items()}
        embeddings, bias = broad.llm_embeddings.detach().numpy(), broad.llm_bias.detach().numpy()
        tensors |= network | {
            "broad_embeddings": embeddings,
            "broad_bias": bias,
            "difficulty_weight": self.difficulty.weight,
            "difficulty_bias": np.array([self.difficulty.bias]),
            "reference_embedding": embeddings[self.reference].mean(axis=0),
            "reference_bias": np.array([bias[self.reference].mean()]),
            "ability": self.ability.mean,
            "ability_sd": self.ability.sd,
            "kin_embeddings": rest * self.kin_embeddings,
            "kin_broad_embeddings": self.kin_broad_embeddings,
        }
        return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def train_hedged(  # noqa: PLR0913 - data and options; the rest is where and who
    data: LearningData,
    llms: KnownLLMs,
    columns: BroadColumns,
    options: TrainingOptions,
    progress: Progress | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    device: Device | None = None,
    team: Team | None = None,
    with_lengths: bool = True,
) -> HedgedParts:
    """Fits abilities and difficulty, then trains both networks and the one of lengths.

    Args:
        data: What to learn from; `observed` may have LLMs without answers.
        llms: Its LLMs.
        columns: What the broad network and difficulty read.
        options: How.
        progress: Told about each epoch.
        checkpoint: See `train_decoder`.
        device: Where; the best there is by default.
        team: Who trains together.
        with_lengths: Whether the network of lengths is trained; else every answer has the same length.

    Returns:
        The parts, on the CPU.

    Raises:
        DataError: The checkpoint is of another run.
    """
    train, sets = data.split.train, _sets(data)
    mean, scale = standardisation(data.x[train], unit_length=False)
    nothing = Head(1, (), 1, 1)
    scaler = Decoder(mean, scale, nothing, nothing, max_deviation=EXAM_DEVIATION)
    s = start_session(data, scaler, options, progress, checkpoint=checkpoint, device=device, team=team)
    ability = fit_ability(count_cells(data.labels[train], data.observed[train], sets[train]), llms.ids, llms.kinds)
    numbers = torch.from_numpy(columns.numbers())
    narrow = _narrowed(s.x, numbers)
    prompts = LabelledPrompts(data.labels[train], data.observed[train], sets[train])
    difficulty = fit_difficulty(prompts, ability.mean, narrow[train].cpu().numpy(), columns.weights(scale.numpy()))
    beside = s.tensor(ability.mean.astype(np.float32))[None], s.tensor(difficulty.of(narrow.cpu().numpy()))[:, None]
    names, features, folding = _features(ability.mean, llms.kinds)
    n_labels = data.observed[train].sum(axis=0)
    trust = (n_labels / (n_labels + max(options.trust_labels, _TINY))).astype(np.float32)
    z = _Kin(s.tensor(features), s.tensor(trust), beside)
    exam, exam_kin = _exam_head(s, z)
    broad, broad_kin = _broad_head(replace(s, x=narrow, copies=_narrowed_copies(s.copies, numbers)), z, sets)
    length = length_head(s) if with_lengths else _no_lengths(s)
    decoder = Decoder(mean, scale, exam.cpu(), length.cpu(), max_deviation=EXAM_DEVIATION).eval()
    return HedgedParts(
        decoder=decoder,
        broad=broad.cpu().eval(),
        columns=columns.numbers(),
        difficulty=difficulty,
        ability=ability,
        reference=reference_llms(n_labels),
        features=names,
        kin_embeddings=folding @ exam_kin,
        kin_broad_embeddings=folding @ broad_kin,
        history=tuple(s.history),
    )


def reference_llms(n_labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """LLMs of at least 1,000 labels; where fewer than two have so many, those of at least half as many as the most.

    Args:
        n_labels: (n_llms,).

    Returns:
        bool (n_llms,), at least one.
    """
    many = n_labels >= _MANY_LABELS
    return many if many.sum() > 1 else n_labels * 2 >= n_labels.max()


def _sets(data: LearningData) -> NDArray[np.int64]:
    return np.zeros(len(data.x), dtype=np.int64) if data.datasets is None else data.datasets


def _narrowed(x: Tensor, columns: Tensor) -> Tensor:
    """What the broad network reads of standardised inputs."""
    return x[:, columns.to(x.device)].clamp(-BROAD_DEVIATION, BROAD_DEVIATION)


def _narrowed_copies(copies: Copies | None, columns: Tensor) -> Copies | None:
    if copies is None:
        return None
    standardise = copies.standardise
    return replace(copies, standardise=lambda x: _narrowed(standardise(x), columns))


@dataclass(frozen=True, slots=True)
class _Kin:
    """What networks know of LLMs before they learn; see `KinHead`.

    Attributes:
        features: float32 (n_llms, n_features).
        trust: float32 (n_llms,).
        beside: Ability and difficulty, float32 (1, n_llms) and (n_prompts, 1).
    """

    features: Tensor
    trust: Tensor
    beside: tuple[Tensor, Tensor]


def _features(
    ability: NDArray[np.float64], kinds: Sequence[LLMKind]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    """Names of the features, their standardised values, and the matrix that makes these of the values as they are.

    A release that is unknown counts as the mean one.
    """
    vendors = [kind.vendor for kind in kinds if kind.vendor != "unknown"]
    frequent = sorted(set(vendors), key=lambda name: (-vendors.count(name), name))[:_FREQUENT_VENDORS]
    names = (*FEATURES, *(f"vendor:{name}" for name in frequent))
    pairs = zip(kinds, ability.tolist(), strict=True)
    raw = np.array([kind.features(of_kind, names) for kind, of_kind in pairs], dtype=np.float64)
    place = {name: i for i, name in enumerate(names)}
    folding = np.eye(len(names))
    released, unknown = place["released"], place["released_unknown"]
    known = raw[:, unknown] == 0
    usual_release = float(raw[known, released].mean()) if known.any() else 0.0
    filled = raw.copy()
    filled[~known, released] = usual_release
    folding[unknown] = 0
    folding[unknown, released] = usual_release
    for name in ("ability", "thinking", "released", "small"):
        column = place[name]
        mean, sd = float(filled[:, column].mean()), float(filled[:, column].std())
        per_sd = 1 / sd if sd > _MIN_SCALE else 0.0
        folding[:, column] *= per_sd
        folding[place["one"], column] -= mean * per_sd
    return names, (raw @ folding).astype(np.float32), folding.astype(np.float32)


def _exam_head(s: Session, kin: _Kin) -> tuple[Head, NDArray[np.float32]]:
    """The network of all columns, its members folded, and the embeddings of the features."""
    heads, rows = [], []
    for member in range(s.options.members):
        lesson = correctness_lesson(s, f"correctness {member + 1}/{s.options.members}")
        lesson = replace(lesson, beside=lambda _, at: kin.beside[0] + kin.beside[1][at])
        head = _kin_head(s, kin, (*s.options.hidden, s.options.d_llm), s.options.seed * 1000 + member, n_sets=0)
        teach(s, lesson, head)
        heads.append(head.folded())
        rows.append(head.kin_embeddings.detach().cpu().numpy() / s.options.members)
    return fold(heads), np.hstack(rows)


def _broad_head(s: Session, kin: _Kin, sets: NDArray[np.int64]) -> tuple[Head, NDArray[np.float32]]:
    """The broad network, without the intercepts it was taught beside, and the embeddings of the features."""
    of_prompt = s.tensor(sets)

    def beside(module: nn.Module, at: Tensor) -> Tensor:
        assert isinstance(module, KinHead)
        known: Tensor = kin.beside[0] + kin.beside[1][at] + module.set_intercepts[of_prompt[at]]
        return known

    widths = (*s.options.broad_hidden, s.options.broad_d_llm)
    head = _kin_head(s, kin, widths, s.options.seed * 1000 + _BROAD_SEED, n_sets=int(sets.max()) + 1)
    teach(s, replace(correctness_lesson(s, "broad"), beside=beside), head)
    return head.folded(), head.kin_embeddings.detach().cpu().numpy()


def _kin_head(s: Session, kin: _Kin, widths: tuple[int, ...], seed: int, *, n_sets: int) -> KinHead:
    torch.manual_seed(seed)
    *hidden, d_llm = widths
    head = Head(s.x.shape[1], hidden, d_llm, len(kin.trust), dropout=s.options.dropout)
    return KinHead(head, kin.features.cpu(), kin.trust.cpu(), n_sets=n_sets)


def _no_lengths(s: Session) -> Head:
    head = Head(s.x.shape[1], (), 1, s.data.labels.shape[1])
    with torch.no_grad():
        head.llm_embeddings.zero_()
        head.llm_bias.fill_(math.log(UNRECORDED_TOKENS))
    return head.eval()
