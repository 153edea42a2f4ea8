"""Trains on generated data as one of several processes, or alone; the main process prints its losses and weights.

torchrun … team_worker.py BATCH
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedllm_router.data.split import Split
from embedllm_router.training.fit.decoder import LearningData
from embedllm_router.training.fit.options import TrainingOptions, paper_options
from embedllm_router.training.fit.team import Team
from embedllm_router.training.fit.training import train_decoder

OPTIONS = TrainingOptions(
    hidden=(8,),
    d_llm=4,
    members=1,
    dropout=0.0,
    input_dropout=0.0,
    learning_rate=0.05,
    max_epochs=4,
    length_hidden=(4,),
)
"""Without noise, so that only the sharing of batches can make a difference."""


def skilled(n: int = 301, d: int = 6, n_llms: int = 4) -> LearningData:
    """Half the LLMs are right where the first value is positive. 241 prompts train: no batch divides them evenly."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    right = (x[:, :1] > 0) ^ (np.arange(n_llms) < n_llms // 2)
    rows = np.arange(n)
    return LearningData(
        x=x,
        labels=(right ^ (rng.random(right.shape) < 0.1)).astype(np.uint8),
        observed=rng.random(right.shape) < 0.7,
        log_tokens=rng.normal(5, 1, right.shape).astype(np.float32),
        thinking=np.zeros(n_llms, dtype=np.bool_),
        categories=rows % 3,
        split=Split(rows[:241], rows[241:281], rows[281:]),
    )


def curves(batch: int, team: Team) -> dict[str, Any]:
    """Losses of whole rows, of rows with one copy of each prompt, and of single pairs, and shared weights.

    The length head of the latter has dropout and is left out; with several copies chance would choose among them.
    """
    rows = train_decoder(skilled(), replace(OPTIONS, batch_prompts=batch), team=team)
    data = skilled()
    copies = (0.9 * data.x[data.split.train] + 0.2).astype(np.float16)[None]
    beside = train_decoder(replace(data, copies=copies), replace(OPTIONS, batch_prompts=batch), team=team)
    paper = replace(paper_options(max_epochs=3), d_llm=4, input_noise=0.0, learning_rate=0.01, batch_pairs=batch)
    pairs = train_decoder(skilled(), paper, team=team)
    return {
        "rows": [(r.head, r.train_loss, r.validation_loss) for r in rows.history],
        "copies": [(r.head, r.train_loss, r.validation_loss) for r in beside.history],
        "pairs": [(r.head, r.train_loss, r.validation_loss) for r in pairs.history if r.head == "correctness"],
        "bias": rows.decoder.tensors()["llm_bias"].tolist(),
    }


def gloo_threads() -> int | None:
    """How many threads of this process belong to the connection; None where the system does not tell."""
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.exists() else None
    return None if names is None else sum("gloo" in name for name in names)


def main() -> None:
    torch.set_num_threads(1)
    team = Team.gather()
    found = curves(int(sys.argv[1]), team)
    biases = team.sum(torch.tensor(found["bias"]))
    before = gloo_threads()
    team.leave()
    if not team.rank:
        threads = [before, gloo_threads()]
        said = {**found, "size": team.size, "sum_of_biases": biases.tolist(), "threads": threads}
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
