"""Small files of every format, with the answers they hold planted in `EXPECTED`."""

import csv
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

PROMPTS = ("What is 2 + 2?", 'Say "hi",\nthen stop.', "¿Qué es λ? 数学 🙂")
LLMS = ("org/small", "org/large")
SCORES = {
    (PROMPTS[0], LLMS[0]): 1.0,
    (PROMPTS[0], LLMS[1]): 1.0,
    (PROMPTS[1], LLMS[0]): 0.0,
    (PROMPTS[1], LLMS[1]): 1.0,
    (PROMPTS[2], LLMS[0]): 0.5,
    (PROMPTS[2], LLMS[1]): 0.0,
}
EMBEDLLM_COLUMNS = ("prompt_id", "model_id", "category_id", "category", "label", "model_name", "prompt")


def write_csv(file: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns or list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_jsonl(file: Path, rows: Sequence[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_json(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def long_rows() -> list[dict[str, object]]:
    return [
        {"prompt": prompt, "llm": llm, "score": score, "category": "planted", "output_tokens": 10 + len(llm)}
        for (prompt, llm), score in SCORES.items()
    ]


def embedllm_rows() -> list[dict[str, object]]:
    return [
        {
            "prompt_id": PROMPTS.index(prompt),
            "model_id": LLMS.index(llm),
            "category_id": 7,
            "category": "planted",
            "label": score,
            "model_name": llm,
            "prompt": prompt,
        }
        for (prompt, llm), score in SCORES.items()
    ]


def write_embedllm(folder: Path) -> Path:
    """One prompt in each part of the release, and its two order files."""
    rows = embedllm_rows()
    for i, part in enumerate(("train", "val", "test")):
        write_csv(folder / f"{part}.csv", [r for r in rows if r["prompt_id"] == i], EMBEDLLM_COLUMNS)
    write_csv(folder / "question_order.csv", [{"prompt_id": i, "prompt": p} for i, p in enumerate(PROMPTS)])
    write_csv(folder / "model_order.csv", [{"model_id": i, "model_name": m} for i, m in enumerate(LLMS)])
    return folder


def routerbench_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, prompt in enumerate(PROMPTS):
        row: dict[str, object] = {"sample_id": f"planted.{i}", "prompt": str([prompt]), "eval_name": "planted"}
        for llm in LLMS:
            row |= {llm: SCORES[prompt, llm], f"{llm}|model_response": "['four']", f"{llm}|total_cost": 0.25}
        rows.append({**row, "oracle_model_to_route_to": LLMS[0]})
    return rows


def write_llmrouterbench(folder: Path) -> Path:
    for llm in LLMS:
        records = [
            {
                "index": i,
                "origin_query": "the bare question",
                "prompt": prompt,
                "prompt_tokens": 12,
                "completion_tokens": 34,
                "cost": 0.25,
                "score": SCORES[prompt, llm],
                "prediction": "4",
                "ground_truth": "4",
                "raw_output": "four",
            }
            for i, prompt in enumerate(PROMPTS)
        ]
        name = llm.rpartition("/")[2]
        document = {"model_name": llm, "dataset_name": "planted", "split": "test", "demo": False, "records": records}
        write_json(folder / "planted" / "test" / name / f"planted-test-{name}-20250101_000000.json", document)
    return folder


def write_lm_eval(folder: Path) -> Path:
    time = "2025-01-01T00-00-00.123456"
    for llm in LLMS:
        rows = [
            {
                "doc_id": i,
                "doc": {"question": prompt},
                "target": "4",
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": []}}},
                "resps": [["four"]],
                "filtered_resps": ["4"],
                "filter": name,
                "metrics": ["exact_match"],
                "exact_match": score,
            }
            for name, scores in (("strict-match", dict.fromkeys(SCORES, 0.0)), ("flexible-extract", SCORES))
            for i, prompt in enumerate(PROMPTS)
            for score in [scores[prompt, llm]]
        ]
        where = folder / llm.replace("/", "__")
        write_jsonl(where / f"samples_planted_{time}.jsonl", rows)
        write_json(where / f"results_{time}.json", {"results": {}, "model_name": llm})
    return folder


def inspect_log(llm: str) -> dict[str, object]:
    letters = {1.0: "C", 0.5: "P", 0.0: "I"}
    samples = [
        {
            "id": i,
            "epoch": 1,
            "input": prompt if i else [{"role": "user", "content": prompt}],
            "target": "4",
            "scores": {"match": {"value": letters[SCORES[prompt, llm]], "answer": "4"}},
            "output": {"model": llm, "completion": "four", "usage": {"input_tokens": 1, "output_tokens": 1}},
            "model_usage": {llm: {"input_tokens": 10, "input_tokens_cache_read": 2, "output_tokens": 34}},
        }
        for i, prompt in enumerate(PROMPTS)
    ]
    return {"version": 2, "status": "success", "eval": {"task": "planted", "model": llm}, "samples": samples}


def write_inspect(folder: Path, *, zipped: bool) -> Path:
    for llm in LLMS:
        log = inspect_log(llm)
        name = llm.rpartition("/")[2]
        if not zipped:
            write_json(folder / f"{name}.json", log)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        samples = log.pop("samples")
        assert isinstance(samples, list)
        with zipfile.ZipFile(folder / f"{name}.eval", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("_journal/start.json", json.dumps(log))
            for sample in samples:
                archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
            archive.writestr("header.json", json.dumps(log))
    return folder


def write_all(folder: Path) -> dict[str, Path]:
    """A source of each kind, by name; each holds exactly `SCORES`."""
    (folder / "parquet").mkdir(parents=True)
    pl.DataFrame(long_rows()).write_parquet(folder / "parquet" / "answers.parquet")
    pl.DataFrame(routerbench_rows()).write_parquet(folder / "parquet" / "routerbench.parquet")
    return {
        "long csv": write_csv(folder / "answers.csv", long_rows()),
        "long jsonl": write_jsonl(folder / "answers.jsonl", long_rows()),
        "long json": write_json(folder / "answers.json", long_rows()),
        "long parquet": folder / "parquet" / "answers.parquet",
        "embedllm": write_embedllm(folder / "embedllm"),
        "routerbench csv": write_csv(folder / "routerbench.csv", routerbench_rows()),
        "routerbench parquet": folder / "parquet" / "routerbench.parquet",
        "llmrouterbench": write_llmrouterbench(folder / "llmrouterbench"),
        "lm-eval": write_lm_eval(folder / "lm_eval"),
        "inspect json": write_inspect(folder / "inspect_json", zipped=False),
        "inspect eval": write_inspect(folder / "inspect_eval", zipped=True),
    }
