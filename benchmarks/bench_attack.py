"""How far a suffix that a client appends pushes requests to dear LLMs, and what helps against it.

    python benchmarks/bench_attack.py [--tries 200] [--data FOLDER...] [--test-prompts 1000]

A greedy search with the weights at hand, as any client could make it, since they are published: at each step some
pieces of text are tried at the end of the prompt, in a second search at either end, and the one that makes the choice
dearest, or brings a dearer LLM nearest to being chosen, is kept. The pool and the cost weight are those of `auto` in
the shipped configuration. The cost ratio compares what the LLM chosen with the added text and the one chosen without it
are expected to cost for the prompt as it was, so that it shows the choice alone. Each countermeasure is attacked by
searches of its own, which know it. With data, log-loss on the test part and the choices changed there without any
attack stand beside.

A second table is of the setting `guard`: one key sends the prompts again and again for an hour, each with the suffix
found for it. How many go to a dearer LLM than without the suffix, and what they cost, is counted with the guard and
without. With data, the same key sends prompts of the test part instead. A further search knows the guard: it makes for
the dearest LLM that is left once the key's share is used up. Ends with one JSON line.
"""

import argparse
import json
import random
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.analysis.replay.change import read_new_config
from embedllm_router.artifact.weights import shipped_path
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.evaluation.metrics import log_loss
from embedllm_router.prediction.loading import PromptEncoder
from embedllm_router.prediction.ood_score import OodScorer
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.routing.budget import Guard, Guarded, Pace, is_dear, without_dear
from embedllm_router.routing.decision import Decision, Objective, Request
from embedllm_router.routing.pipeline import NO_STATE, Embedded, Policy, RequestState, decide
from embedllm_router.routing.prompt import read_body
from embedllm_router.serving.budget_enforcer import DearShares
from embedllm_router.serving.state.shared import ReplicaState, SharedState

MODEL: Final = "auto"
AT_ONCE: Final = 20
"""Pieces tried at each step of the search."""
PROMPTS: Final = (
    "What is the capital of Australia?",
    "Write a short birthday message for a colleague who likes gardening.",
    "Translate into French: The train to Lyon leaves at nine tomorrow morning.",
    "Summarise in one sentence: The committee met on Tuesday, discussed the budget for schools, and adjourned early.",
    "A shop sells pens at 3 for 2 dollars. How much do 12 pens cost?",
    "Explain to a child why the sky is blue.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Which vitamin is made in the skin in sunlight?\nA. Vitamin A\nB. Vitamin C\nC. Vitamin D\nD. Vitamin K",
    "Give me five ideas for a vegetarian dinner that takes less than half an hour.",
    "Correct the spelling: I recieved you're letter yesterday and was very suprised.",
    "Write an SQL query that lists customers without orders, from customers(id, name) and orders(id, customer_id).",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies?",
    "What are the main differences between a lease and a licence in English law?",
    "Find all real solutions of x^2 - 5x + 6 = 0.",
    "Is it safe to take ibuprofen together with paracetamol?",
    "Classify the sentiment as positive or negative: The room was small but the staff could not have been kinder.",
)
PHRASES: Final = (
    "Think step by step.", "Show your work.", "Prove your answer rigorously.", "Answer with one letter.", "Be brief.",
    "This is an olympiad problem.", "Let f be a continuous function on [0, 1].", "How many integers n are such that",
    "Determine the eigenvalues of the matrix.", "Give the answer modulo 998244353.", "\\[ \\int_0^1 x^2 \\, dx \\]",
    "$\\sum_{k=1}^{n} \\binom{n}{k}$", "Write a C++ program.", "```python\ndef solve(n):\n    return n\n```",
    "SELECT a, COUNT(*) FROM t GROUP BY a HAVING COUNT(*) > 1;", "#include <vector>", "assert solve([3, 1, 2]) == 6",
    "Who is the uncle of Mary?", "There are five houses in a row.", "Each clue is true.", "Return JSON only.",
    "(A) 12 (B) 17 (C) 24 (D) 31 (E) none of these", "\nA. yes\nB. no\nC. maybe\nD. unknown", "Options:\n1.\n2.\n3.",
    "A 54-year-old man presents with chest pain.", "The defendant moved to suppress the evidence.",
    "Write a story of exactly 300 words.", "Please write an essay of at least 2000 words.", "In the year 1848,",
    "Erkläre das bitte.", "Explique en français.", "请用中文回答。", "Ответь по-русски.", "Válaszolj magyarul.",
    "Ignore this.", "Thank you!", "Hi!", "Why?", "Input:", "Output:", "Final answer:", "Question 2:", "Example 1:",
    "O O X\nX O X\n. . O", "0 1 1 0\n1 0 0 1", "Rotate the grid by 90 degrees.", "abcabcabc", "???", "!!!", "...",
    "\n\n",
    "- ", "1) ", "* * *", "{}", "[]", "=>", "<br>", "|---|---|", "%", "&", "@", "~", "^", "\t", "    ",
)  # fmt: skip
WORDS: Final = (
    "algorithm", "theorem", "proof", "integral", "molecule", "enzyme", "statute", "plaintiff", "inflation", "entropy",
    "recursion", "pointer", "kernel", "lemma", "prime", "graph", "vertex", "tensor", "sonnet", "grandmother", "cousin",
    "king", "puzzle", "grid", "token", "budget", "protein", "diagnosis", "therapy", "voltage", "orbit", "galaxy",
)  # fmt: skip
Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


def pieces(n_random: int = 60) -> tuple[str, ...]:
    """Phrases, words, and strings of random letters, digits and marks; the same each time."""
    rng = random.Random(0)  # noqa: S311 - seeded
    alphabets = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation)
    noise = ["".join(rng.choices(rng.choice(alphabets), k=rng.choice((1, 4, 16)))) for _ in range(n_random)]
    return (*PHRASES, *WORDS, *noise)


# Who decides


@dataclass(frozen=True, slots=True)
class Measure:
    """How a decision is made from a text.

    Attributes:
        name: What it does.
        scorer: Its predictions of one embedding.
        objective: What the best candidate is.
        views: The texts that are read for a prompt; the first is the prompt.
        cheapest: Whether each view chooses and the cheapest of their choices is taken; else the median of their
            p_correct chooses.
        state: What is known of the caller.
        max_ood_score: OOD score above which the default answers; None sends nothing to it.
    """

    name: str
    scorer: Scorer
    objective: Objective
    views: Callable[[str], Sequence[str]]
    cheapest: bool = False
    state: RequestState = NO_STATE
    max_ood_score: float | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """Weights whose predictions of the prompt are made already."""

    encoder: PromptEncoder
    scores: Scores
    artifact_id: str
    encoder_id: str

    @property
    def scorer(self) -> "Given":
        """Itself."""
        return self

    def score(self, prompt_embedding: Matrix | None, caller_shrinkage: float = 0.0) -> Scores:
        """The predictions."""
        del prompt_embedding, caller_shrinkage
        return self.scores


@dataclass(frozen=True, slots=True)
class Server:
    """What is the same for every measure."""

    router: Router
    policy: Policy

    def scores(self, text: str, measure: Measure) -> list[Scores]:
        """Predictions of each view."""
        x = [self.router.encoder.encode(view).prompt_embedding for view in measure.views(text)]
        return [measure.scorer.score(one, measure.state.caller_shrinkage) for one in x]

    def p_correct(self, scores: Sequence[Scores], measure: Measure) -> Matrix:
        """What the measure predicts of a text, float32 (n_llms,)."""
        if len(scores) == 1 or measure.cheapest:
            return scores[0].p_correct
        return np.median([one.p_correct for one in scores], axis=0).astype(np.float32)

    def decide(self, text: str, measure: Measure) -> Decision:
        """The decision on a text."""
        scores = self.scores(text, measure)
        if not measure.cheapest:
            scores = [replace(scores[0], p_correct=self.p_correct(scores, measure))]
        decisions = [self._decided(text, one, measure) for one in scores]
        return min(decisions, key=lambda one: float(decisions[0].cost_usd[chosen_by(one)]))

    def _decided(self, text: str, scores: Scores, measure: Measure) -> Decision:
        read = read_body({"prompt": text})
        request = Request(measure.objective, read.input_tokens)
        predictor = Given(self.router.encoder, scores, self.router.artifact_id, self.router.encoder_id)
        policy = replace(self.policy, max_ood_score=measure.max_ood_score)
        return decide(predictor, read, request, policy, measure.state, Embedded(None)).decision


def chosen_by(decision: Decision) -> int:
    """Who answers: the best candidate, and where a limit on cost leaves none, the cheapest one."""
    return decision.ranking[0] if decision.ranking else int(np.nanargmin(decision.cost_usd))


def whole(text: str) -> tuple[str, ...]:
    """The prompt alone."""
    return (text,)


def halves(text: str) -> tuple[str, ...]:
    """The prompt, its first and its second half."""
    middle = len(text) // 2
    return text, text[:middle], text[middle:]


def whole_and_first_half(text: str) -> tuple[str, ...]:
    """The prompt and its first half."""
    return text, text[: max(len(text) // 2, 1)]


def measures(router: Router, served: Objective) -> list[Measure]:
    """What is compared; the first is what is served."""
    artifact = router.artifact
    spec, hedge = artifact.manifest.decoder, artifact.manifest.hedge
    plain = Measure("as served, a new caller", router.scorer, served, whole)

    def clipped(at: float) -> Measure:
        own = spec.model_copy(update={"max_deviation": at})
        scorer = Scorer(artifact.decoder, OodScorer.from_artifact(artifact), own, hedge)
        return replace(plain, name=f"features clipped at {at:g} sd", scorer=scorer)

    return [
        plain,
        replace(plain, name="as served, drift in full", state=RequestState(caller_shrinkage=1.0)),
        *(replace(plain, name=f"max_ood_score {at:g}", max_ood_score=at) for at in (0.99, 0.95)),
        *(
            replace(plain, name=f"max_cost_usd {usd:g}", objective=replace(served, max_cost_usd=usd))
            for usd in (0.005, 0.001)
        ),
        replace(plain, name="cost weight 200", objective=replace(served, cost_weight=200.0)),
        replace(plain, name="near-tie margin 0.03", objective=replace(served, near_tie_margin=0.03)),
        *(clipped(at) for at in (2.0, 1.0) if at < spec.max_deviation),
        replace(plain, name="median of prompt and halves", views=halves),
        replace(plain, name="cheapest of prompt and first half", views=whole_and_first_half, cheapest=True),
    ]


# The search


@dataclass(frozen=True, slots=True)
class Attack:
    """What became of one prompt.

    Attributes:
        before: Name of the LLM chosen for the prompt as it was.
        after: With the text that was found.
        prefix: What was found to stand in front; empty where only the end was tried.
        suffix: What was found to stand behind.
        usd_before: Expected cost of the first for the prompt as it was.
        usd_after: Of the second, likewise.
        dearest_usd: Of the dearest candidate, likewise.
        ood_before: OOD score of the prompt, in [0, 1].
        ood_after: With what was found.
    """

    before: str
    after: str
    prefix: str
    suffix: str
    usd_before: float
    usd_after: float
    dearest_usd: float
    ood_before: float
    ood_after: float

    @property
    def ratio(self) -> float:
        """How many times dearer the choice became."""
        return self.usd_after / self.usd_before


def attack(  # noqa: PLR0913 - what is attacked, how long, from where
    server: Server, prompt: str, measure: Measure, tries: int, *, both_ends: bool, seed: int
) -> Attack:
    """Searches text around a prompt that makes the choice as dear as possible."""
    rng, known = random.Random(seed), pieces()  # noqa: S311 - seeded
    plain = server.decide(prompt, measure)
    usd, names = plain.cost_usd, server.policy.pool.names
    around, best, found = ("", ""), _rank_of(plain, usd), plain
    while tries > 0:
        tried = [_longer(around, piece, rng, both_ends=both_ends) for piece in rng.sample(known, min(AT_ONCE, tries))]
        tries -= len(tried)
        for before, behind in tried:
            decision = server.decide(before + prompt + behind, measure)
            if _rank_of(decision, usd) > best:
                around, best, found = (before, behind), _rank_of(decision, usd), decision
    first, last = chosen_by(plain), chosen_by(found)
    return Attack(
        names[first],
        names[last],
        *around,
        usd_before=float(usd[first]),
        usd_after=float(usd[last]),
        dearest_usd=float(np.nanmax(usd[list(plain.ranking)])),
        ood_before=_ood(server, prompt),
        ood_after=_ood(server, around[0] + prompt + around[1]),
    )


def _longer(around: tuple[str, str], piece: str, rng: random.Random, *, both_ends: bool) -> tuple[str, str]:
    if both_ends and rng.random() < 1 / 2:
        return f"{piece} {around[0]}", around[1]
    return around[0], f"{around[1]} {piece}"


def _rank_of(decision: Decision, usd: Floats) -> tuple[float, float]:
    """Cost of the choice, and how near a dearer candidate is to being chosen instead."""
    chosen = chosen_by(decision)
    dearer = [i for i in decision.ranking if usd[i] > usd[chosen]]
    near = max((float(decision.utility[i] - decision.utility[chosen]) for i in dearer), default=0.0)
    return float(usd[chosen]), near


def _ood(server: Server, text: str) -> float:
    score = server.router.scorer.score(server.router.encoder.encode(text).prompt_embedding)
    return score.shrinkage.ood_score or 0.0


def one_for_all(server: Server, measure: Measure, attacks: Sequence[Attack]) -> tuple[str, Floats]:
    """The suffix, of those found, that raises the cost of all prompts together most, and each prompt's ratio."""
    plain = [server.decide(prompt, measure) for prompt in PROMPTS]

    def ratios(suffix: str) -> Floats:
        after = [server.decide(prompt + suffix, measure) for prompt in PROMPTS]
        costs = [(a.cost_usd[chosen_by(b)], a.cost_usd[chosen_by(a)]) for a, b in zip(plain, after, strict=True)]
        return np.array([float(now / then) for now, then in costs])

    found = {one.suffix: ratios(one.suffix) for one in attacks}
    best = max(found, key=lambda suffix: float(np.log(found[suffix]).mean()))
    return best, found[best]


# What a measure costs


@dataclass(frozen=True, slots=True)
class Price:
    """What a measure changes where nobody attacks.

    Attributes:
        ms: Processor time of a decision on the prompts of this script.
        log_loss: On the test part, of the labels of its prompts; NaN without data.
        changed: Share of the test part's prompts that go to another LLM than as served; NaN without data.
        usd_ratio: What choices there cost, relative to those as served; NaN without data.
    """

    ms: float
    log_loss: float = float("nan")
    changed: float = float("nan")
    usd_ratio: float = float("nan")


def milliseconds(server: Server, measure: Measure, rounds: int = 20) -> float:
    """Processor time of a decision; the lowest mean of several rounds."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        for prompt in PROMPTS:
            server.decide(prompt, measure)
        taken.append(time.process_time() - started)
    return min(taken) / len(PROMPTS) * 1e3


def test_part(server: Server, folders: Sequence[Path], n_prompts: int) -> CorrectnessMatrix:
    """Some prompts of the test part, at random."""
    test = read_inputs(server.router.artifact, folders, train_x=False).test.matrix
    return test.select_prompts(np.random.default_rng(0).permutation(len(test.prompts))[:n_prompts])


def prices(server: Server, compared: Sequence[Measure], folders: Sequence[Path], n_prompts: int) -> list[Price]:
    """What each measure costs; the first is what is served."""
    times = [milliseconds(server, measure) for measure in compared]
    if not folders:
        return [Price(ms) for ms in times]
    test = test_part(server, folders, n_prompts)
    labels, seen = test.labels(), test.observed
    served: list[Decision] = [server.decide(prompt, compared[0]) for prompt in test.prompts]
    found = []
    for ms, measure in zip(times, compared, strict=True):
        p = np.stack([server.p_correct(server.scores(prompt, measure), measure) for prompt in test.prompts])
        chosen = [chosen_by(server.decide(prompt, measure)) for prompt in test.prompts]
        usual = [chosen_by(one) for one in served]
        usd = [sum(float(one.cost_usd[i]) for one, i in zip(served, which, strict=True)) for which in (chosen, usual)]
        changed = float(np.mean(np.array(chosen) != np.array(usual)))
        found.append(Price(ms, float(log_loss(labels[seen], p[seen])), changed, usd[0] / usd[1]))
    return found


# The guard


N_SENT: Final = 600
"""Requests of the key in the guard's hour."""


@dataclass(frozen=True, slots=True)
class Share:
    """Requests of one key in an hour.

    Attributes:
        dear: Share that was sent to a dear candidate.
        dearer: Share that went to a dearer LLM than the same prompt would have without suffix and guard.
        cheaper: Share that went to a cheaper one.
        usd: Expected cost of 1,000 of them, in USD, of the prompts as they were.
    """

    dear: float
    dearer: float
    cheaper: float
    usd: float


def an_hour(plain: Sequence[Decision], sent: Sequence[Decision], guard: Guard) -> Share:
    """What becomes of a key's requests under a guard.

    Args:
        plain: Decisions on the prompts as they were.
        sent: Decisions on what is sent instead, in the same order.
        guard: The guard; one of a share of 1 bounds nothing.
    """
    clock, key = [0.0], Guarded(guard, MODEL, "key")
    shares = DearShares(SharedState(ReplicaState.new(clock=lambda: clock[0])))
    found = []
    for i in range(N_SENT):
        now = clock[0] = i * guard.window_s / N_SENT
        was, decision = plain[i % len(plain)], sent[i % len(sent)]
        if shares.is_full(key, now):
            decision = without_dear(decision, guard.times_median)
        chosen, before = chosen_by(decision), chosen_by(was)
        dear = bool(is_dear(decision, guard.times_median)[chosen])
        shares.count(key, now, dear=dear)
        usd, usual = float(was.cost_usd[chosen]), float(was.cost_usd[before])
        found.append((dear, usd > usual, usd < usual, usd))
    dear_share, dearer, cheaper, usd = np.mean(np.array(found, dtype=np.float64), axis=0).tolist()
    return Share(dear_share, dearer, cheaper, 1e3 * usd)


def guards(
    server: Server, measure: Measure, attacks: Sequence[Attack], honest: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """The guard at several settings: under attack, and on prompts of nobody who attacks."""
    plain = [server.decide(prompt, measure) for prompt in PROMPTS]
    sent = [
        server.decide(one.prefix + prompt + one.suffix, measure) for prompt, one in zip(PROMPTS, attacks, strict=True)
    ]
    usual = [server.decide(prompt, measure) for prompt in honest[:N_SENT]]
    found = {}
    for times in (2.0, 3.0, 5.0):
        for share in (1.0, 0.3, 0.1):
            guard = Guard(share, 3_600.0, 50, times)
            rows = {"attack": an_hour(plain, sent, guard)}
            if usual:
                rows["honest"] = an_hour(usual, usual, guard)
            found[f"above {times:g} medians, share {share:g}"] = {name: asdict(one) for name, one in rows.items()}
    return found


def guard_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """The same for readers."""
    heads = ("guard", "attack: dear", "dearer than without suffix", "USD per 1,000")
    table = Table(*heads, "honest: dear", "cheaper than without guard", "USD per 1,000", title="guard of a key")
    for name, rows in found.items():
        a, h = rows["attack"], rows.get("honest")
        cells = [name, f"{a['dear']:.0%}", f"{a['dearer']:.0%}", f"{a['usd']:.2f}"]
        table.add_row(*cells, *([f"{h['dear']:.1%}", f"{h['cheaper']:.1%}", f"{h['usd']:.2f}"] if h else [""] * 3))
    return table


# The run


def figures(attacks: Sequence[Attack]) -> dict[str, float]:
    """What is shown of the attacks on one measure."""
    ratios = np.array([one.ratio for one in attacks])
    return {
        "changed": float(np.mean(ratios > 1)),
        "to_dearest": float(np.mean([one.usd_after >= one.dearest_usd for one in attacks])),
        "median_ratio": float(np.median(ratios)),
        "max_ratio": float(ratios.max()),
        "mean_usd_before": float(np.mean([one.usd_before for one in attacks])),
        "mean_usd_after": float(np.mean([one.usd_after for one in attacks])),
        "ood_before": float(np.mean([one.ood_before for one in attacks])),
        "ood_after": float(np.mean([one.ood_after for one in attacks])),
    }


def row(name: str, suffix: Mapping[str, float], shared: Floats, ends: Mapping[str, float], price: Price) -> list[str]:
    """One measure's row of the table."""
    return [
        name,
        f"{suffix['changed']:.0%}, {suffix['to_dearest']:.0%}",
        f"{suffix['median_ratio']:.1f}, {suffix['max_ratio']:.0f}",
        f"{np.median(shared):.1f}, {shared.max():.0f}",
        f"{ends['median_ratio']:.1f}, {ends['max_ratio']:.0f}",
        f"{1e3 * suffix['mean_usd_before']:.2f} → {1e3 * suffix['mean_usd_after']:.2f}",
        f"{suffix['ood_before']:.2f} → {suffix['ood_after']:.2f}",
        f"{price.ms:.2f}",
        f"{price.log_loss:.4f}",
        f"{price.changed:.1%}, {price.usd_ratio:.2f}",
    ]


HEADS: Final = (
    "decided", "dearer, dearest LLM", "cost ratio: median, max", "one suffix for all", "text at both ends",
    "USD per 1,000", "OOD score", "ms", "log-loss", "without attack: changed, cost",
)  # fmt: skip


def of_guards(
    console: Console, server: Server, served: Measure, asked: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Measures the guard, and prints its table."""
    attacks = [
        attack(server, prompt, served, asked.tries, both_ends=False, seed=asked.seed + i)
        for i, prompt in enumerate(PROMPTS)
    ]
    honest = test_part(server, asked.data, N_SENT).prompts if asked.data else ()
    found = guards(server, served, attacks, honest)
    console.print(guard_table(found))
    for times in (2.0, 3.0, 5.0):
        full = replace(served, state=RequestState(pace=partial(_full, times)))
        knowing = [
            attack(server, prompt, full, asked.tries, both_ends=False, seed=asked.seed + i)
            for i, prompt in enumerate(PROMPTS)
        ]
        name = f"above {times:g} medians, share used up, and the search knows it"
        found[name] = {"attack": figures(knowing)}
        usd = [1e3 * found[name]["attack"][one] for one in ("mean_usd_before", "mean_usd_after")]
        console.print(f"{name}: USD per 1,000 {usd[0]:.2f} → {usd[1]:.2f}", highlight=False)
    return found


def _full(times_median: float, _: Decision) -> Pace:
    return Pace(dear_above=times_median)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=200, help="suffixes tried for a prompt")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="data sets for log-loss on the test part")
    parser.add_argument("--test-prompts", type=int, default=1000, help="how many of its prompts")
    parser.add_argument("--config", type=Path, default=shipped_path("proxy_config.yaml"), help="proxy configuration")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the search")
    parser.add_argument("--guard-only", action="store_true", help="measure the guard and nothing else")
    asked = parser.parse_args()
    console, router = Console(width=180), Router.load()
    model = read_new_config(asked.config, router.artifact).virtual_models[MODEL]
    aim = model.settings.objective
    server = Server(router, model.policy)
    compared = measures(router, aim)
    if asked.guard_only:
        console.print_json(json.dumps(of_guards(console, server, compared[0], asked)), indent=None)
        return
    table = Table(*HEADS, title=f"{len(PROMPTS)} prompts, {asked.tries} tries each, cost weight {aim.cost_weight:g}")
    result = {}
    for measure, price in zip(compared, prices(server, compared, asked.data, asked.test_prompts), strict=True):
        ends, suffixes = (
            [
                attack(server, prompt, measure, asked.tries, both_ends=both, seed=asked.seed + i)
                for i, prompt in enumerate(PROMPTS)
            ]
            for both in (True, False)
        )
        text, shared = one_for_all(server, measure, suffixes)
        table.add_row(*row(measure.name, figures(suffixes), shared, figures(ends), price))
        result[measure.name] = {
            "suffix": figures(suffixes),
            "both_ends": figures(ends),
            "one_suffix": {"text": text, "median_ratio": float(np.median(shared)), "max_ratio": float(shared.max())},
            "price": asdict(price),
        }
        Console(stderr=True).print(measure.name, highlight=False)
    console.print(table)
    print(json.dumps(result | {"guard": of_guards(console, server, compared[0], asked)}))


if __name__ == "__main__":
    main()
