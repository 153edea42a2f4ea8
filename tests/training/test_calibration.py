import numpy as np

from embedllm_router.evaluation.metrics import expected_calibration_error, log_loss
from embedllm_router.training.fit.training import fit_calibration


def overconfident(n: int, n_llms: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits twice as large as the truth and too high by one; labels drawn from the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, (n, n_llms))
    labels = (rng.random((n, n_llms)) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    return (2 * truth + 1).astype(np.float32), labels


def p(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def test_a_planted_distortion_is_undone() -> None:
    logits, labels = overconfident(20_000, 2)
    fit = fit_calibration(logits, labels, np.ones_like(labels, dtype=bool))
    np.testing.assert_allclose(fit.slope, 0.5, atol=0.03)
    np.testing.assert_allclose(fit.offset, -0.5, atol=0.05)
    new_logits, new_labels = overconfident(20_000, 2, seed=1)
    calibrated = p(new_logits * fit.slope + fit.offset).ravel()
    assert expected_calibration_error(new_labels.ravel(), calibrated) < 0.015
    assert log_loss(new_labels.ravel(), calibrated) < log_loss(new_labels.ravel(), p(new_logits).ravel())


def test_an_llm_without_labels_gets_the_common_fit_and_one_with_few_stays_near_it() -> None:
    logits, labels = overconfident(5_000, 3)
    labels[:, 1] = 0
    observed = np.ones_like(labels, dtype=bool)
    observed[5:, 1] = False
    observed[:, 2] = False
    fit = fit_calibration(logits, labels, observed)
    np.testing.assert_allclose(fit.slope, 0.5, atol=0.1)
    assert abs(fit.offset[1] - fit.offset[2]) < 0.2


def test_a_useless_prediction_keeps_a_positive_slope() -> None:
    logits, labels = overconfident(2_000, 1)
    fit = fit_calibration(-logits, labels, np.ones_like(labels, dtype=bool))
    assert fit.slope[0] > 0
