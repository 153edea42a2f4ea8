"""Records for people: a summary, one line per decision, and one request explained. Pure: the commands print."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from embedllm_router._stats import Estimate
from embedllm_router.analysis.calibration import Calibration
from embedllm_router.analysis.explain import Explained, Explanation, Knob
from embedllm_router.analysis.judged import Judge, Judged
from embedllm_router.analysis.summary import Alternative, Count, Summary
from embedllm_router.analysis.topics import topic_of
from embedllm_router.records.reader.find import Found

__all__ = [
    "decision_line",
    "flips",
    "header_line",
    "milliseconds",
    "number",
    "objective_of",
    "outcome",
    "p_correct",
    "percent",
    "probability",
    "request_blocks",
    "request_fields",
    "shadow",
    "summary_blocks",
    "timing",
    "to_win",
    "usd",
    "verdicts",
    "when",
    "why",
]


def usd(value: float | None) -> str:
    """An amount to three digits without an exponent, such as "$0.00214"; "-" when unknown."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "$0"
    digits = min(max(2, 2 - math.floor(math.log10(abs(value)))), 12)
    text = f"{abs(value):,.{digits}f}"
    return ("-" if value < 0 else "") + "$" + text


def probability(value: float | None) -> str:
    """To three digits, such as "0.951"."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share of 1 in percent, such as "4.2 %"."""
    if share is None or not math.isfinite(share):
        return "-"
    return f"{100 * share:.{1 if abs(share) < 1 else 0}f} %"


def number(value: float | None) -> str:
    """Three or four digits, without an exponent up to a million."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - three digits before the point


def milliseconds(value: float | None) -> str:
    """To a hundredth below ten, else whole."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004 - as said


def when(at: datetime) -> str:
    """A time in UTC to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


_COLUMNS: Final = {
    "UTC": 14,
    "request": 13,
    "model": 12,
    "chosen": 20,
    "p": 5,
    "forecast": -10,
    "billed": -10,
    "route ms": -8,
    "total s": -7,
    "reason": 0,
}
"""Header → width; negative for right-aligned, 0 for the rest of the line."""


def header_line() -> Text:
    """Names of the columns."""
    return Text(_laid_out(list(_COLUMNS)), style="dim", no_wrap=True)


def decision_line(row: Mapping[str, Any]) -> Text:
    """One request; red where nobody answered, yellow where another LLM did or routing failed open."""
    seconds = None if row["latency_ms"] is None else row["latency_ms"] / 1000
    cells = [
        f"{row['at']:%m-%d %H:%M:%S}",
        row["request_id"],
        row["virtual_model"],
        row["chosen"],
        probability(row["p_correct"]),
        usd(row["expected_cost_usd"]),
        usd(row["billed_cost_usd"]),
        milliseconds(row["route_ms"]),
        "-" if seconds is None else f"{seconds:.2f}",
        _remark(row),
    ]
    style = "red" if row["status"] != "success" else "yellow" if row["fallback"] or row["failed_open"] else ""
    return Text(_laid_out(cells), style=style, no_wrap=True)


def _remark(row: Mapping[str, Any]) -> str:
    said = str(row["reason"])
    if row["failed_open"] is not None:
        said += f" ({row['failed_open']})"
    if row["arm"] != "live":
        said += f", {row['arm']}"
    if row["fallback"]:
        said += f", answered by {row['served']}"
    if row["status"] != "success":
        said += f", {row['status']}" + (f": {row['error']}" if row["error"] else "")
    return said


def _laid_out(cells: list[str]) -> str:
    return " ".join(_fitted(cell, width) for cell, width in zip(cells, _COLUMNS.values(), strict=True)).rstrip()


def _fitted(cell: str, width: int) -> str:
    if not width:
        return cell
    size = abs(width)
    short = cell if len(cell) <= size else f"{cell[: size - 1]}…"
    return short.rjust(size) if width < 0 else short.ljust(size)


Row = Mapping[str, Any]

_KNOBS: Final[Mapping[Knob, str]] = {
    "cost_weight": "the cost weight λ",
    "min_p_correct": "the floor τ under p_correct",
    "within": "the distance from the best p_correct",
}


def objective_of(row: Row) -> str:
    """By which objective the request was routed."""
    if row["cost_weight"] is None:
        return f"{row['virtual_model']} was requested; routing failed before there was an objective"
    if row["within"] is not None:
        aim = f"the cheapest LLM whose p_correct is at most {number(row['within'])} below the best one's"
    elif row["min_p_correct"] is not None:
        aim = f"the cheapest LLM whose p_correct reaches {number(row['min_p_correct'])}"
    else:
        aim = f"the highest p_correct - λ · cost, with λ = {number(row['cost_weight'])} per USD"
    limit = "" if row["max_cost_usd"] is None else f", for at most {usd(row['max_cost_usd'])}"
    return f"{row['virtual_model']} was requested: {aim}{limit}; set by {row['objective_from'] or 'config'}"


def why(row: Row, explanation: Explanation) -> str:
    """Why the request went where it went, in one sentence."""
    chosen = row["chosen"]
    if row["failed_open"] is not None:
        return f"Routing failed ({row['failed_open']}), so {chosen}, the default, was to answer."
    usable = [one for one in explanation.candidates if one.excluded is None]
    reasons = {
        "only_candidate": lambda: _only(chosen, len(explanation.candidates) - len(usable)),
        "highest_utility": lambda: _utility(row, usable),
        "cheapest_at_floor": lambda: _cheapest(row, usable),
        "floor_unreached": lambda: _unreached(row),
        "explored": lambda: _explored(row, explanation),
        "near_tie": lambda: _near_tie(row, explanation),
        "out_of_distribution": lambda: _out_of_distribution(row),
        "guarded": lambda: (
            f"{chosen} is the best of those that are not dear: the key's requests went to dear ones as often as the "
            "virtual model's guard allows."
        ),
    }
    said = reasons.get(row["reason"], lambda: f"{chosen} was chosen: {row['reason']}.")()
    if explanation.best not in {None, chosen} and row["reason"] not in {"explored", "near_tie"}:
        said += f" By its objective alone, {explanation.best} would have been chosen."
    return said


def _only(chosen: str, n_excluded: int) -> str:
    others = f"all {n_excluded} others were excluded" if n_excluded else "there was no other"
    others = "the other one was excluded" if n_excluded == 1 else others
    return f"{chosen} was the only candidate that could take the request; {others}."


def _utility(row: Row, usable: Sequence[Explained]) -> str:
    p, cost, weight = row["p_correct"], row["expected_cost_usd"], row["cost_weight"]
    second = next((one for one in usable if one.name != row["chosen"]), None)
    if not weight:
        rival = "" if second is None else f"; the next, {second.name}, has {probability(second.p_correct)}"
        return f"{row['chosen']} is the most accurate, {probability(p)}, and cost has no weight{rival}."
    sum_ = f"{probability(p)} - {number(weight)} · {usd(cost)}"
    if abs(p - weight * cost - row["utility"]) > 1e-6:  # noqa: PLR2004 - what rounding alone never makes
        sum_ += f" - {probability(p - weight * cost - row['utility'])} for waiting"
    rival = "" if second is None else f"; the next, {second.name}, has {probability(second.utility)}"
    return f"{row['chosen']} has the highest utility, {sum_} = {probability(row['utility'])}{rival}."


def _cheapest(row: Row, usable: Sequence[Explained]) -> str:
    floor = row["min_p_correct"]
    if row["within"] is not None:
        floor = max(one.p_correct or 0.0 for one in usable) - row["within"]
    reach = [one for one in usable if (one.p_correct or 0.0) >= floor]
    which = f"the cheapest of {len(reach)} candidates" if len(reach) > 1 else "the only candidate"
    figures = f"{probability(row['p_correct'])} for {usd(row['expected_cost_usd'])}"
    return f"{row['chosen']}, with {figures}, is {which} whose p_correct reaches {probability(floor)}."


def _unreached(row: Row) -> str:
    return (
        f"No candidate reaches a p_correct of {number(row['min_p_correct'])}; {row['chosen']} comes nearest with "
        f"{probability(row['p_correct'])}."
    )


def _near_tie(row: Row, explanation: Explanation) -> str:
    best = next(one for one in explanation.candidates if one.name == explanation.best)
    return (
        f"{row['chosen']} answers a near tie: its utility, {probability(row['utility'])}, is at most "
        f"{number(row['near_tie_margin'])} below that of {best.name}, {probability(best.utility)}, and it is the "
        "better one on typical prompts."
    )


def _out_of_distribution(row: Row) -> str:
    return (
        f"{row['chosen']} is the default, and the prompt is unlike those the weights were learned from: only "
        f"{1 - (row['novelty'] or 0.0):.1%} of ordinary prompts have as high an OOD score."
    )


def _explored(row: Row, explanation: Explanation) -> str:
    usual = f"; by its objective, it would have been {explanation.best}" if explanation.best else ""
    return f"{row['chosen']} was drawn to learn about it, with probability {number(row['propensity'])}{usual}."


def flips(explanation: Explanation) -> list[str]:
    """The nearest changes of the objective that would choose somebody else."""
    if explanation.knob is None or explanation.setting is None:
        return []
    knob = _KNOBS[explanation.knob]
    if explanation.below is None and explanation.above is None:
        return [f"Whatever {knob} is, {explanation.best} is chosen."]
    here = f"{knob} stood at {number(explanation.setting)}"
    closed_above = explanation.knob == "min_p_correct"
    said: list[str] = []
    if explanation.below is not None:
        edge = "at or below" if closed_above else "below"
        said.append(f"{edge} {number(explanation.below.at)} {explanation.below.name} would be chosen")
    if explanation.above is not None:
        edge = "above" if closed_above else "from"
        upwards = "" if closed_above else " on"
        said.append(f"{edge} {number(explanation.above.at)}{upwards} {explanation.above.name} would be chosen")
    return [f"{here[0].upper()}{here[1:]}; {', and '.join(said)}."]


def to_win(explanation: Explanation, one: Explained) -> str:
    """What it would take for one candidate to be chosen."""
    if one.name == explanation.best:
        return "chosen" if one.name == explanation.chosen else "best by the objective"
    if one.excluded is not None:
        return "would win if allowed" if one.would_win else ""
    ways = [_span(explanation, one.name)]
    if one.cost_to_win_usd is not None and one.cost_usd:
        ways.append(f"cost down {percent(1 - one.cost_to_win_usd / one.cost_usd)}")
    if one.p_to_win is not None:
        ways.append(f"p ≥ {probability(one.p_to_win)}")
    mark = "chosen; best if " if one.name == explanation.chosen else ""
    return mark + (" or ".join(way for way in ways if way) or "nothing single")


def _span(explanation: Explanation, name: str) -> str:
    letter = {"cost_weight": "λ", "min_p_correct": "τ", "within": "within"}
    spans = [span for span in explanation.spans if span.name == name]
    if not spans or explanation.knob is None:
        return ""
    knob = letter[explanation.knob]
    nearest = min(spans, key=lambda span: abs(span.low - (explanation.setting or 0.0)))
    if nearest.low == 0:
        return f"{knob} < {number(nearest.high)}"
    if nearest.high is None or nearest.high == 1:
        return f"{knob} > {number(nearest.low)}"
    return f"{knob} {number(nearest.low)} to {number(nearest.high)}"


def outcome(row: Row) -> str:
    """The outcome of the request."""
    if row["status"] == "failure":
        return f"No answer: {row['error'] or 'an error'}{_after(row)}."
    if row["status"] != "success":
        return "No outcome was reported: the proxy ended, or gave up waiting for it."
    who = row["served"] or "somebody"
    tokens = f"{number(row['billed_input_tokens'])} + {number(row['billed_output_tokens'])} tokens"
    fell = f" instead of {row['chosen']}" if row["fallback"] else ""
    return f"{who} answered{fell}{_after(row)}: {tokens}, {usd(row['billed_cost_usd'])} billed{_against(row)}."


def _after(row: Row) -> str:
    waited = row["latency_ms"]
    if waited is None:
        return ""
    return f" after {waited / 1000:.1f} s" if waited >= 1000 else f" after {waited:.0f} ms"  # noqa: PLR2004 - a second


def _against(row: Row) -> str:
    expected, billed = row["expected_cost_usd"], row["billed_cost_usd"]
    if not expected or billed is None:
        return ""
    off = f", {percent(abs(billed / expected - 1))} {'more' if billed > expected else 'less'} than"
    return f"{off} the {usd(expected)} forecast for {row['chosen']}"


def timing(row: Row) -> str:
    """What routing added."""
    parts = [(name, row[f"{name}_ms"]) for name in ("encode", "score", "decide")]
    known = ", ".join(f"{name} {value:.2f}" for name, value in parts if value is not None)
    return f"Routing took {row['route_ms']:.2f} ms" + (f" ({known})." if known else ".")


def shadow(row: Row) -> str | None:
    """What would have been decided in the shadow; None when nothing was."""
    if row["shadow_artifact"] is None:
        return None
    if row["shadow_chosen"] is None:
        return f"The shadow ({row['shadow_artifact']}) had no candidate left."
    same = " as well" if row["shadow_chosen"] == row["chosen"] else ""
    figures = f"p_correct {probability(row['shadow_p_correct'])}, {usd(row['shadow_cost_usd'])}"
    return f"The shadow ({row['shadow_artifact']}) would have chosen {row['shadow_chosen']}{same}: {figures}."


def verdicts(feedback: Sequence[Row]) -> list[str]:
    """The verdicts on the answer, one line each."""
    return [f"{one['source']} gave {number(one['score'])} on {when(one['at'])}" for one in feedback]


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
    blocks: list[RenderableType] = [
        _request_head(row),
        _lines("", objective_of(row)),
        Text(why(row, explanation), style="bold"),
    ]
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


def _request_head(row: Mapping[str, Any]) -> Text:
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
        facts.append(f"topic: {topic_of(row['category'])}")
        facts.append(f"nearest training prompts: {row['category']}")
    if row["novelty"] is not None:
        facts.append(f"OOD score {row['novelty']:.3f}")
    if row["hedge"]:
        facts.append(
            f"predictions shrunk by {row['hedge']:.0%}, by how unlike training the prompt or the caller's prompts are"
        )
    return [", ".join(facts), *([row["prompt"]] if row["prompt"] is not None else [])]


def _lines(name: str, *lines: str) -> Text:
    text = Text()
    if name:
        text.append(f"{name}: ", style="cyan")
    text.append("\n".join(lines))
    return text


def p_correct(one: Explained) -> str:
    """A candidate's p_correct, after what it was before it was shrunk where that differs: "0.900 -> 0.700"."""
    after, before = probability(one.p_correct), probability(one.p_unshrunk)
    return after if one.p_unshrunk is None or before == after else f"{before} -> {after}"


def _candidates(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("candidate", overflow="fold")
    intervals = any(one.p_correct_low is not None for one in explanation.candidates)
    for header in ("p_correct", *(["95 %"] if intervals else []), "tokens", "cost", "utility"):
        table.add_column(header, justify="right")
    table.add_column("chosen if", overflow="fold")
    for one in explanation.candidates:
        interval = [f"{probability(one.p_correct_low)} to {probability(one.p_correct_high)}"] if intervals else []
        figures = (p_correct(one), *interval, number(one.expected_output_tokens), usd(one.cost_usd))
        remark = to_win(explanation, one)
        if one.known_by not in {None, "labels"}:
            remark = f"known by {one.known_by}" + (f"; {remark}" if remark else "")
        if one.excluded is not None:
            remark = f"excluded: {one.excluded}" + (f"; {remark}" if remark else "")
        style = "bold" if one.name == explanation.chosen else "dim" if one.excluded is not None else ""
        table.add_row(one.name, *figures, probability(one.utility), remark, style=style)
    return table


_HONEST: Final = (
    "Predicted cost and p_correct on both sides: an LLM that was not asked has neither a bill nor feedback. Brackets "
    "hold 95 % intervals over requests; errors that all forecasts share are not in them."
)


def summary_blocks(summary: Summary) -> list[RenderableType]:
    """What to print, in order."""
    blocks: list[RenderableType] = [_head(summary)]
    if not summary.n:
        return blocks
    blocks += [_mix(summary), _topics(summary), _outcomes(summary)]
    if summary.spend.alternatives:
        blocks.append(_spend(summary))
    blocks.append(_forecast(summary))
    if summary.calibration is not None:
        blocks += [_calibration(summary.calibration), _calibration_line(summary.calibration)]
    else:
        blocks.append(Text("calibration: no feedback on these requests"))
    blocks += [_times(summary), *(_judged(summary.judged) if summary.judged else ())]
    return [*blocks, Text(f"verdict: {summary.verdict}")]


def _head(summary: Summary) -> Text:
    text = Text(f"{summary.n:,} requests", style="bold")
    if summary.first is not None and summary.last is not None:
        text.append(f", {when(summary.first)} to {when(summary.last)}")
    text.append(f", in {summary.where}")
    given = ", ".join(f"{name} {_said(value)}" for name, value in summary.filters.items())
    return text.append(f"; only {given}" if given else "")


def _said(value: object) -> str:
    return when(value) if isinstance(value, datetime) else str(value)


def _table(title: str, left: Iterable[str], right: Iterable[str], caption: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="cyan", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.caption, table.caption_justify = caption, "left"
    for header in left:
        table.add_column(header, overflow="fold")
    for header in right:
        table.add_column(header, justify="right")
    return table


def _mix(summary: Summary) -> Table:
    table = _table("mix", ["LLM"], ["chosen", "share", "answered", "billed", "mean p_correct", "billed / forecast"])
    ratios = {one.llm: one.ratio for one in summary.forecast.by_llm}
    for one in summary.llms:
        shares = (f"{one.chosen.n:,}", percent(one.chosen.share), f"{one.served.n:,}")
        table.add_row(
            one.llm, *shares, usd(one.billed_usd), probability(one.p_correct), probability(ratios.get(one.llm))
        )
    return table


def _topics(summary: Summary) -> Table:
    table = _table("topics", ["topic"], ["requests", "share", "mean p_correct", "cost", "chosen most often"])
    for one in summary.topics:
        most = f"{one.llm} {percent(one.llm_share)}"
        table.add_row(one.topic, f"{one.n:,}", percent(one.share), probability(one.p_correct), usd(one.cost_usd), most)
    return table


def _outcomes(summary: Summary) -> Text:
    out = summary.outcomes
    parts = {
        "answered": out.success,
        "failed": out.failure,
        "without an outcome": out.unknown,
        "fell back to another LLM": out.fallback,
        "failed open": out.failed_open,
        "under the floor": out.floor_missed,
    }
    ended = [f"{name} {_count(count)}" for name, count in parts.items() if count.n or name == "answered"]
    if summary.rejected_lines:
        ended.append(f"and {summary.rejected_lines:,} damaged lines, which may have been records")
    why = [f"{reason} {_count(count)}" for reason, count in summary.reasons.items()]
    return Text(f"outcomes: {', '.join(ended)}\nreasons: {', '.join(why)}")


def _count(count: Count) -> str:
    return f"{count.n:,} ({percent(count.share)})"


def _spend(summary: Summary) -> Table:
    spend = summary.spend
    title = f"spend: {usd(spend.billed_usd)} billed for {spend.n_billed:,} requests"
    headers = ["p_correct", "USD a request", "routing saved", "as a share", "p_correct gained by routing"]
    table = _table(title, ["way to choose"], headers, _HONEST)
    each = spend.expected_usd / spend.n_compared
    table.add_row("as routed", probability(spend.p_correct), usd(each), "", "", "", style="bold")
    for way in spend.alternatives:
        table.add_row(
            _name(way),
            probability(way.p_correct),
            usd(way.cost_usd),
            _interval(way.saved_usd, usd),
            _interval(way.saved_share, percent),
            _interval(way.p_correct_gained, _signed),
        )
    return table


def _name(way: Alternative) -> str:
    if way.name == "baseline":
        return f"always {way.llm}, the baseline, for {way.n:,} requests"
    if way.name != "best_single":
        return "always the most accurate" if way.name == "likeliest" else "always the cheapest"
    sampled = f", from {way.n:,} sampled requests" if way.n < way.n_meant else ""
    return f"always {way.llm}, the best single LLM{sampled}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _interval(found: Estimate, write: Callable[[float], str]) -> str:
    return f"{write(found.value)} [{write(found.low)}, {write(found.high)}]"


def _forecast(summary: Summary) -> Text:
    found = summary.forecast
    if not found.n:
        return Text("forecast: no request has both a predicted and a billed cost")
    return Text(
        f"forecast: {usd(found.billed_usd)} was billed where {usd(found.expected_usd)} was predicted, "
        f"{_interval(found.ratio, probability)} times as much, over {found.n:,} requests; half of them were off by "
        f"more than {percent(found.median_error)} of the bill (median of {found.n_median:,})"
    )


def _calibration(found: Calibration) -> Table:
    table = _table("calibration", ["predicted"], ["requests", "mean p_correct", "mean feedback"])
    for one in found.bins:
        score = _interval(one.score, probability)
        table.add_row(f"{one.low:.1f} to {one.high:.1f}", f"{one.n:,}", probability(one.p_correct), score)
    return table


def _calibration_line(found: Calibration) -> Text:
    sources = ", ".join(f"{source} {n:,}" for source, n in found.n_by_source.items())
    sampled = "" if found.is_whole else ", a random part of all feedback"
    return Text(
        f"{found.n:,} requests with feedback ({sources}{sampled}): predicted {probability(found.p_correct)}, found "
        f"{_interval(found.score, probability)}; Brier {_interval(found.brier, probability)}, ECE "
        f"{_interval(found.ece, probability)}. Users who give feedback are not a random sample of all users."
    )


def _times(summary: Summary) -> Table:
    table = _table("time in ms", [""], ["p50", "p95", "p99", "requests"])
    for name, one in {"added by routing": summary.route_ms, "to the last byte": summary.latency_ms}.items():
        table.add_row(name, *(milliseconds(value) for value in (one.p50, one.p95, one.p99)), f"{one.n:,}")
    return table


def _judged(found: Judged) -> list[RenderableType]:
    """Other LLMs beside those that answered, what that cost, and how far the judges err."""
    title = f"judged evaluation: {found.n_requests:,} requests, {found.n_verdicts:,} verdicts, {usd(found.usd)}"
    headers = ["answers", "score", "user's answer", "better", "worse", "no answer", "cost"]
    table = _table(f"{title} ({usd(found.judges_usd)} for judges)", ["LLM"], headers)
    for one in found.contenders:
        scores = probability(one.score), probability(one.score_served)
        counts = f"{one.n_better:,}", f"{one.n_worse:,}", f"{one.n_failed:,}"
        table.add_row(one.llm, f"{one.n:,}", *scores, *counts, usd(one.usd))
    return [table, *(Text(_errors_of(one)) for one in found.judges)]


def _errors_of(one: Judge) -> str:
    said = f"judge {one.judge}: scored {one.n:,} answers beside the user's"
    if one.reversed is not None:
        said += f", {_interval(one.reversed, percent)} of them the other way round when the order was swapped"
    said += f"; {one.n_failed:,} without a score that could be read" if one.n_failed else ""
    if one.told_apart is None:
        return f"{said}. It has not been shown an answer beside its own copy yet, so its error is not known."
    doubles = f"{one.n_doubles:,} answers beside their own copies"
    return f"{said}. Of {doubles} it told {_interval(one.told_apart, percent)} apart, by {probability(one.apart)}."
