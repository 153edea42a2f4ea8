"""A matrix of three made-up benchmarks of 40 questions and six LLMs of two vendors."""

import numpy as np

from embedllm_router.data.matrix import CorrectnessMatrix

BENCHMARKS = ("algebra", "history", "poetry")
LLMS = tuple(f"{vendor}/{size}" for vendor in ("anta", "bort") for size in ("s", "m", "l"))
_N = 40


def grouped_matrix(*, shared_questions: int = 0, reworded_questions: int = 0) -> CorrectnessMatrix:
    """History asks the first of algebra's questions too: some as they are, with other options, the next reworded."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(400)]
    prompts = [" ".join(rng.choice(words, 24)) for _ in range(_N * len(BENCHMARKS))]
    for i in range(shared_questions):
        prompts[_N + i] = f"{prompts[i].upper()}\nA) yes\nB) no"
    for i in range(shared_questions, shared_questions + reworded_questions):
        prompts[_N + i] = f"{prompts[i]} indeed"
    shape = (len(prompts), len(LLMS))
    return CorrectnessMatrix(
        prompts=tuple(prompts),
        prompt_ids=tuple(f"p{i}" for i in range(len(prompts))),
        categories=("any",) * len(prompts),
        datasets=tuple(name for name in BENCHMARKS for _ in range(_N)),
        llm_ids=LLMS,
        correctness=rng.integers(0, 2, shape).astype(np.float32),
        observed=np.ones(shape, dtype=np.bool_),
        output_tokens=np.full(shape, np.nan, dtype=np.float32),
        counted=np.zeros(shape, dtype=np.bool_),
        input_tokens=np.full(shape[0], np.nan, dtype=np.float32),
    )
