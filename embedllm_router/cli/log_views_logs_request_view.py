"""One explained request as blocks for a terminal, and as fields for a program. Pure."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from embedllm_router.analysis.explain import Explanation
from embedllm_router.cli.log_views_logs_sentences import asked, flips, outcome, shadow, timing, to_win, verdicts, why
from embedllm_router.cli.log_views_logs_wording import number, probability, usd, when
from embedllm_router.records.reader.find import Found

__all__ = ["request_blocks", "request_fields"]


def request_fields(found: Found, explanation: Explanation) -> dict[str, Any]:
    """Everything known of a request, and what follows from it."""
    return {
        "request": dict(found.row),
        "feedback": [dict(one) for one in found.feedback],
        "explanation": explanation,
        "why": why(found.row, explanation),
        "what_would_flip_it": flips(explanation),
        "outcome": outcome(found.row),
    }


def request_blocks(found: Found, explanation: Explanation) -> list[RenderableType]:
    """What to print, in order."""
    row = found.row
    blocks: list[RenderableType] = [_head(row), _lines("", asked(row)), Text(why(row, explanation), style="bold")]
    if explanation.candidates:
        blocks.append(_candidates(explanation))
    said = {
        "what would flip it": flips(explanation),
        "prompt": _prompt(row),
        "outcome": [outcome(row)],
        "feedback": verdicts(found.feedback) or ["None."],
        "shadow": [text for text in [shadow(row)] if text],
        "timing": [timing(row)],
    }
    blocks += [_lines(name, *lines) for name, lines in said.items() if lines]
    return blocks


def _head(row: Mapping[str, Any]) -> Text:
    parts = [f"request {row['request_id']}", when(row["at"])]
    parts += [f"{name} {row[column]}" for name, column in _HEAD.items() if row[column] not in {None, "live"}]
    return Text(" · ".join(parts), style="dim")


_HEAD = {"key": "key_alias", "team": "team_alias", "artifact": "artifact", "arm": "arm", "endpoint": "call_type"}


def _prompt(row: Mapping[str, Any]) -> list[str]:
    if row["prompt_chars"] is None:
        return []
    facts = [f"{number(row['prompt_chars'])} characters", f"{number(row['input_tokens'])} input tokens"]
    if row["max_output_tokens"] is not None:
        facts.append(f"at most {number(row['max_output_tokens'])} output tokens")
    if row["needs"]:
        facts.append(f"needs {', '.join(row['needs'])}")
    if row["category"] is not None:
        facts.append(f"nearest training prompts: {row['category']}")
    if row["novelty"] is not None:
        facts.append(f"novelty {row['novelty']:.3f}")
    if row["hedge"]:
        facts.append(f"predictions hedged by {row['hedge']:.0%}, prompt or traffic is unlike what was learned")
    return [", ".join(facts), *([row["prompt"]] if row["prompt"] is not None else [])]


def _lines(name: str, *lines: str) -> Text:
    text = Text()
    if name:
        text.append(f"{name}: ", style="cyan")
    text.append("\n".join(lines))
    return text


def _candidates(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("candidate", overflow="fold")
    for header in ("p_correct", "tokens", "cost", "utility"):
        table.add_column(header, justify="right")
    table.add_column("chosen if", overflow="fold")
    for one in explanation.candidates:
        figures = (probability(one.p_correct), number(one.expected_output_tokens), usd(one.cost_usd))
        remark = to_win(explanation, one)
        if one.excluded is not None:
            remark = f"excluded: {one.excluded}" + (f"; {remark}" if remark else "")
        style = "bold" if one.name == explanation.chosen else "dim" if one.excluded is not None else ""
        table.add_row(one.name, *figures, probability(one.utility), remark, style=style)
    return table
