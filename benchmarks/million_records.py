"""Made-up records of routed requests by the million, written by DuckDB as sealed Parquet files of the store's form.

Eight LLMs, one trade-off, a baseline, a day's rhythm; 2 % fall back, 1 % fail, 0.2 % failed open, 5 % have feedback.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb

from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS

__all__ = ["LLMS", "write_records"]

LLMS = (
    ("gpt-4o", "gpt-4o-2024-08-06", 1.6, 2.5e-6, 10e-6, 420.0),
    ("claude-sonnet-4", "claude-sonnet-4-20250514", 2.1, 3e-6, 15e-6, 520.0),
    ("o3-mini", "o3-mini-2025-01-31", 2.2, 1.1e-6, 4.4e-6, 1900.0),
    ("gemini-pro", "gemini-1.5-pro-002", 1.5, 1.25e-6, 5e-6, 430.0),
    ("llama-70b", "llama-3.3-70b-instruct", 1.2, 0.6e-6, 0.7e-6, 450.0),
    ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 0.9, 0.15e-6, 0.6e-6, 400.0),
    ("gemini-flash", "gemini-1.5-flash-002", 0.8, 0.075e-6, 0.3e-6, 380.0),
    ("qwen-7b", "qwen2.5-7b-instruct", 0.2, 0.04e-6, 0.1e-6, 390.0),
)
"""Model group, learned LLM, skill in logits, USD per input and output token, expected output tokens."""
COST_WEIGHT = 20.0

_CANDIDATES = """
WITH request AS (
  SELECT i, $start + to_microseconds(CAST((i + random()) * $step_us AS BIGINT)) AS "at", sqrt(-2 * ln(random() + 1e-9))
    * cos(6.2832 * random()) AS ease, CAST(exp(4 + 2.5 * random()) AS BIGINT) AS input_tokens, random() AS fate,
    random() AS luck, CAST(floor(random() * 12) AS INT) AS topic, exp(0.35 * (random() + random() - 1)) AS slow
  FROM range($first, $last) t(i)
), weighed AS (
  SELECT r.*, name, llm, tokens * exp(-0.3 * ease) AS tokens, 1 / (1 + exp(-(skill + 1.4 * ease
    + 0.9 * sin(topic * 2.1 + skill * 9)))) AS p, input_tokens * usd_in + tokens * exp(-0.3 * ease) * usd_out AS usd
  FROM request r CROSS JOIN llms
), ranked AS (
  SELECT i, any_value("at") AS "at", any_value(input_tokens) AS input_tokens, any_value(fate) AS fate,
    any_value(luck) AS luck, any_value(topic) AS topic, any_value(slow) AS slow,
    list({'name': name, 'llm': llm, 'p_correct': p, 'expected_output_tokens': tokens, 'cost_usd': usd,
      'utility': p - $weight * usd, 'excluded': NULL::VARCHAR} ORDER BY p - $weight * usd DESC) AS c,
    any_value({'p': p, 'usd': usd}) FILTER (WHERE name = 'gpt-4o') AS used,
    arg_max({'n': name, 'p': p, 'usd': usd}, p) AS best, arg_min({'n': name, 'p': p, 'usd': usd}, usd) AS least
  FROM weighed GROUP BY i
)
SELECT *, fate < 0.02 AS fell, fate BETWEEN 0.02 AND 0.03 AS broke, fate BETWEEN 0.03 AND 0.032 AS opened FROM ranked
"""

_GIVEN = {
    "at": '"at"',
    "request_id": "CAST(md5(CAST(i AS VARCHAR)) AS VARCHAR)",
    "virtual_model": "CASE WHEN luck < 0.7 THEN 'auto' WHEN luck < 0.9 THEN 'auto-cheap' ELSE 'auto-best' END",
    "call_type": "'acompletion'",
    "key_alias": "['search', 'support', 'batch-jobs', 'research', NULL][1 + CAST(floor(luck * 1e3) AS INT) % 5]",
    "team_alias": "'platform'",
    "artifact": "CASE WHEN opened THEN NULL ELSE '0123456789ab' END",
    "generation": "1",
    "arm": "'live'",
    "reason": "CASE WHEN opened THEN 'failed_open' ELSE 'highest_utility' END",
    "failed_open": "CASE WHEN opened THEN 'ArtifactError' END",
    "objective_from": "CASE WHEN NOT opened THEN 'config' END",
    "cost_weight": "CASE WHEN NOT opened THEN $weight END",
    "chosen": "c[1].name",
    "llm": "c[1].llm",
    "p_correct": "CASE WHEN NOT opened THEN c[1].p_correct END",
    "expected_output_tokens": "c[1].expected_output_tokens",
    "expected_cost_usd": "CASE WHEN NOT opened THEN c[1].cost_usd END",
    "utility": "c[1].utility",
    "propensity": "1.0",
    "runner_up": "c[2].name",
    "likeliest": "best.n",
    "likeliest_p_correct": "CASE WHEN NOT opened THEN best.p END",
    "likeliest_cost_usd": "CASE WHEN NOT opened THEN best.usd END",
    "cheapest": "least.n",
    "cheapest_p_correct": "CASE WHEN NOT opened THEN least.p END",
    "cheapest_cost_usd": "CASE WHEN NOT opened THEN least.usd END",
    "baseline": "CASE WHEN NOT opened AND luck < 0.7 THEN 'gpt-4o' END",
    "baseline_p_correct": "CASE WHEN NOT opened AND luck < 0.7 THEN used.p END",
    "baseline_cost_usd": "CASE WHEN NOT opened AND luck < 0.7 THEN used.usd END",
    "candidates": "CASE WHEN opened THEN [] ELSE c END",
    "category": "['mmlu_pro/law', 'mmlu_pro/math', 'zeroeval/chat', 'spider/sql', 'mbpp/code', 'gsm8k/arithmetic']"
    "[1 + topic % 6] || topic",
    "prompt_chars": "input_tokens * 4",
    "input_tokens": "input_tokens",
    "needs": "[]",
    "prompt_hash": "md5(CAST(i // 3 AS VARCHAR))[:24]",
    "encode_ms": "0.4 * slow",
    "score_ms": "0.2 * slow",
    "decide_ms": "0.05 * slow",
    "route_ms": "0.8 * slow * slow",
    "status": "CASE WHEN broke THEN 'failure' ELSE 'success' END",
    "served": "CASE WHEN broke THEN NULL WHEN fell THEN c[2].name ELSE c[1].name END",
    "fallback": "fell",
    "served_p_correct": "CASE WHEN broke OR opened THEN NULL WHEN fell THEN c[2].p_correct ELSE c[1].p_correct END",
    "error": "CASE WHEN broke THEN 'APIConnectionError' END",
    "response_id": "CASE WHEN NOT broke THEN 'chatcmpl-' || i END",
    "billed_input_tokens": "CASE WHEN NOT broke THEN input_tokens END",
    "billed_output_tokens": "CASE WHEN NOT broke THEN CAST(c[1].expected_output_tokens * slow AS BIGINT) END",
    "billed_cost_usd": "CASE WHEN fell THEN c[2].cost_usd * slow WHEN NOT broke THEN c[1].cost_usd * slow END",
    "latency_ms": "CASE WHEN NOT broke THEN (300 + c[1].expected_output_tokens * 6) * slow * slow END",
    "total_ms": "CASE WHEN NOT broke THEN (310 + c[1].expected_output_tokens * 6) * slow * slow + fell::INT * 900 END",
    "failed_attempts": "CASE WHEN fell THEN [c[1].name || ': RateLimitError'] ELSE [] END",
}

_FEEDBACK = {
    "at": '"at" + INTERVAL 60 SECOND',
    "request_id": "request_id",
    "score": "CASE WHEN random() < served_p_correct THEN 1.0 ELSE 0.0 END",
    "source": "'user'",
}


def write_records(folder: Path, n: int, start: datetime, span: timedelta, files: int = 40) -> None:
    """Writes n records evenly over a span of time, and feedback on one in twenty.

    Args:
        folder: Where the Parquet files go; made when absent.
        n: How many records.
        start: Time of the first, UTC without zone.
        span: Time from the first to the last.
        files: Number of request files, in the order of time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect()
    db.execute("SET threads = 2")
    db.execute(
        "CREATE TABLE llms (name VARCHAR, llm VARCHAR, skill DOUBLE, usd_in DOUBLE, usd_out DOUBLE, tokens DOUBLE)"
    )
    db.executemany("INSERT INTO llms VALUES (?, ?, ?, ?, ?, ?)", [list(one) for one in LLMS])
    db.execute("SELECT setseed(0.5)")
    step = span / n
    bounds = [n * k // files for k in range(files + 1)]
    for number, (first, last) in enumerate(pairwise(bounds)):
        _write_file(db, folder, number, (first, last), (start, step))


def _write_file(
    db: duckdb.DuckDBPyConnection,
    folder: Path,
    number: int,
    part: tuple[int, int],
    clock: tuple[datetime, timedelta],
) -> None:
    start, step = clock
    first, last = part
    stamp = f"{start + first * step:%Y%m%dT%H%M%S}-bench{number:03d}"
    asked = {"start": start, "step_us": step / timedelta(microseconds=1), "first": first, "last": last}
    made = f'SELECT {_columns(REQUEST_COLUMNS, _GIVEN)} FROM ({_CANDIDATES}) ORDER BY "at"'  # noqa: S608 - our own SQL
    db.execute(f"CREATE OR REPLACE TABLE part AS {made}", {**asked, "weight": COST_WEIGHT})
    db.execute(f"COPY part TO '{folder / f'requests-{stamp}.parquet'}' (FORMAT parquet, COMPRESSION zstd)")
    answered = f"SELECT {_columns(FEEDBACK_COLUMNS, _FEEDBACK)} FROM part WHERE served IS NOT NULL AND hash(request_id) % 20 = 0"  # noqa: E501, S608 - our own constants
    db.execute(f"COPY ({answered}) TO '{folder / f'feedback-{stamp}.parquet'}' (FORMAT parquet)")


def _columns(kinds: dict[str, str], given: dict[str, str]) -> str:
    return ", ".join(f'CAST({given.get(name, "NULL")} AS {kind}) AS "{name}"' for name, kind in kinds.items())
