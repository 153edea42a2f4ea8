"""A recorded decision in sentences: why the winner won, what would flip it, what came of it. It computes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from embedllm_router.analysis.explain import Explained, Explanation
from embedllm_router.analysis.explain_logs_flips import Knob
from embedllm_router.cli.log_views_logs_wording import number, percent, probability, usd, when

__all__ = ["asked", "flips", "outcome", "shadow", "timing", "to_win", "verdicts", "why"]

Row = Mapping[str, Any]

_KNOBS: Final[Mapping[Knob, str]] = {
    "cost_weight": "the cost weight λ",
    "min_p_correct": "the floor τ under p_correct",
    "within": "the distance from the best p_correct",
}


def asked(row: Row) -> str:
    """By which objective the request was routed."""
    if row["cost_weight"] is None:
        return f"{row['virtual_model']} was asked for; routing failed before there was an objective"
    if row["within"] is not None:
        aim = f"the cheapest LLM whose p_correct is at most {number(row['within'])} below the best one's"
    elif row["min_p_correct"] is not None:
        aim = f"the cheapest LLM whose p_correct reaches {number(row['min_p_correct'])}"
    else:
        aim = f"the highest p_correct - λ · cost, with λ = {number(row['cost_weight'])} per USD"
    limit = "" if row["max_cost_usd"] is None else f", for at most {usd(row['max_cost_usd'])}"
    return f"{row['virtual_model']} was asked for: {aim}{limit}; set by {row['objective_from'] or 'config'}"


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
        "out_of_distribution": lambda: _novel(row),
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
        return f"{row['chosen']} is the likeliest to be correct, {probability(p)}, and cost has no weight{rival}."
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


def _novel(row: Row) -> str:
    return (
        f"{row['chosen']} is the default, and the prompt is unlike those the weights were learned from: only "
        f"{1 - (row['novelty'] or 0.0):.1%} of ordinary prompts are as novel."
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
    """What came of the request."""
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
    """What was said of the answer, one line each."""
    return [f"{one['source']} gave {number(one['score'])} on {when(one['at'])}" for one in feedback]
