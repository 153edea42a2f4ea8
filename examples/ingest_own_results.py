"""Brings results of your own to the data folder that `train` and `evaluate` read; here on made-up ones.

On the command line: embedllm-router ingest my_results.jsonl --out my_data
"""

import json
import tempfile
from pathlib import Path

from embedllm_router.data.folder import read_folder
from embedllm_router.data.ingest import ingest
from embedllm_router.data.split import leakage_report, leave_one_benchmark_out

QUESTIONS = {
    "arithmetic": [f"What is {a} times {a + 7}, and what is it minus {a}?" for a in range(20, 60)],
    "capitals": [f"Which city governs the made-up country number {i} of the long list?" for i in range(40)],
}
ANSWERS_OF = {"small-llm": {"arithmetic": 3, "capitals": 2}, "large-llm": {"arithmetic": 1, "capitals": 4}}
"""Every how many questions of a kind the LLM is right."""

with tempfile.TemporaryDirectory() as folder:
    results = Path(folder) / "my_results.jsonl"
    with results.open("w", encoding="utf-8") as file:
        for category, questions in QUESTIONS.items():
            for i, prompt in enumerate(questions):
                for llm, every in ANSWERS_OF.items():
                    row = {"prompt": prompt, "llm": llm, "score": float(i % every[category] == 0)}
                    file.write(json.dumps({**row, "category": category, "output_tokens": 40 + i}) + "\n")

    report = ingest([results], Path(folder) / "my_data")
    print(f"{report.n_items} prompts, {report.n_llms} LLMs, {report.n_results} answers, {report.n_rejected} rejected")

    matrix = read_folder(Path(folder) / "my_data")
    for llm, accuracy in zip(matrix.llm_ids, matrix.correctness.mean(axis=0), strict=True):
        print(f"{llm}: right {accuracy:.0%} of the time")

    for split in leave_one_benchmark_out(matrix):
        print(f"without {split.held_out}: {len(split.train)} prompts to learn from, {len(split.test)} to judge on")
    print(leakage_report(matrix, leave_one_benchmark_out(matrix)))
