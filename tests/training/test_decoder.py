import numpy as np
import pytest
import torch

from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.fit.decoder import Decoder, Head, PairModel, fold

D_PROMPT, N_LLMS = 12, 5


def random_decoder(hidden: tuple[int, ...], seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(
        torch.randn(D_PROMPT),
        torch.rand(D_PROMPT) + 0.1,
        Head(D_PROMPT, hidden, 4, N_LLMS),
        Head(D_PROMPT, (7,), 3, N_LLMS),
    ).eval()


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6), (8, 6, 4)])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_the_numpy_scorer_equals_the_decoder(hidden: tuple[int, ...], size: float) -> None:
    decoder = random_decoder(hidden)
    scorer = Scorer(decoder.tensors())
    for x in size * np.random.default_rng(0).normal(size=(20, D_PROMPT)).astype(np.float32):
        with torch.no_grad():
            expected = decoder(torch.from_numpy(x)[None])
        found = scorer.score(x)
        np.testing.assert_allclose(found.p_correct, torch.sigmoid(expected.logits[0]), atol=1e-5)
        tokens = expected.log_tokens[0].clamp(0, np.log(131_072)).exp()
        np.testing.assert_allclose(found.output_tokens, tokens, rtol=1e-3)


def test_a_prompt_without_text_is_the_average_prompt() -> None:
    decoder = random_decoder((8,))
    found = Scorer(decoder.tensors()).score(None)
    with torch.no_grad():
        expected = decoder(decoder.input_mean[None])
    np.testing.assert_allclose(found.p_correct, torch.sigmoid(expected.logits[0]), atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize("members", [1, 3])
@torch.no_grad()
def test_a_folded_ensemble_is_the_mean_of_its_members(hidden: tuple[int, ...], members: int) -> None:
    torch.manual_seed(0)
    heads = [Head(D_PROMPT, hidden, 4, N_LLMS) for _ in range(members)]
    for head in heads:
        head.llm_bias.normal_()
    x = torch.randn(10, D_PROMPT)
    mean = torch.stack([head(x) for head in heads]).mean(dim=0)
    torch.testing.assert_close(fold(heads)(x), mean)


def test_dropout_is_silent_in_evaluation() -> None:
    head = Head(D_PROMPT, (8,), 4, N_LLMS, dropout=0.5).eval()
    x = torch.randn(3, D_PROMPT)
    torch.testing.assert_close(head(x), head(x))


def pair_model_and_batch() -> tuple[PairModel, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return PairModel(D_PROMPT, 7, N_LLMS), torch.randn(40, D_PROMPT), torch.randint(N_LLMS - 1, (40,))


def literally(model: PairModel, x: torch.Tensor, llms: torch.Tensor) -> torch.Tensor:
    """The formula of the paper, w · (p_llm ∘ (A·x + b)) + c, term by term."""
    return model.output(model.llm_embeddings(llms) * model.projection(x)).squeeze(-1)


def test_the_pair_model_is_the_papers_formula_with_its_gradients() -> None:
    model, x, llms = pair_model_and_batch()
    weights = torch.randn(len(x))
    gradients = []
    for forward in (model, lambda *pair: literally(model, *pair)):
        model.zero_grad()
        (forward(x, llms) * weights).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(model(x, llms), literally(model, x, llms))
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_the_folded_pair_model_predicts_the_same_for_every_llm() -> None:
    model, x, llms = pair_model_and_batch()
    torch.testing.assert_close(model.folded()(x)[torch.arange(len(x)), llms], literally(model, x, llms))
