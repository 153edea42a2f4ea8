"""How often a change that leaves a prompt's meaning changes who answers it, why, and what would help.

    python benchmarks/bench_stability.py --data DIR... [--prompts N] [--artifact DIR]

Held-out prompts of the data sets the weights learned from, as many of each, are routed by the shipped configuration:
as they are, and with typos, other white space, case, punctuation, politeness, frames or wording. Three tables: flips by
kind of change and virtual model; flips when only one part of the prompt embedding changes; and what margins do within
which near ties go to favourites (the LLMs that are chosen most often for the first half of the prompts; flips are of
the second half). Ends with one line of JSON.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.artifact import shipped_path
from embedllm_router.candidates import CandidatePool
from embedllm_router.decision import Request
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.evaluation.stability import CHANGES, NearTies, Perturbed, Weighed, choices, flips, perturb
from embedllm_router.favourites import usual_places
from embedllm_router.manifest import EncoderSpec
from embedllm_router.messages import read_body
from embedllm_router.policy import Objective, decide
from embedllm_router.replay.new_config import read_new_config
from embedllm_router.scorer import Scorer

MARGINS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
DEFAULT = "auto"


def held_out(router: Router, folders: list[Path], n: int) -> list[str]:
    """So many prompts of the test part, as many of each data set, always the same, in random order."""
    test = read_inputs(router.artifact, folders, train_x=False).test.matrix
    datasets, rng = np.array(test.datasets), np.random.default_rng(0)
    each = -(-n // len(set(test.datasets)))
    rows = [rng.permutation(np.flatnonzero(datasets == name))[:each] for name in dict.fromkeys(test.datasets)]
    return [test.prompts[i] for i in rng.permutation(np.concatenate(rows))[:n].tolist()]


def parts_of(router: Router) -> Mapping[str, slice | list[int]]:
    """The parts of a static encoder's prompt embedding: token vectors, n-gram tables, kinds of text statistics."""
    spec = router.artifact.manifest.encoder
    assert isinstance(spec, EncoderSpec)
    start = len(spec.pools) * spec.d_embedding
    parts: dict[str, slice | list[int]] = {"token vectors": slice(0, start)}
    for table in spec.ngrams:
        parts[f"n-grams: {table.name}"] = slice(start, start + table.n_columns)
        start += table.n_columns
    names = list(enumerate(spec.style_features, start))
    capitals = [i for i, name in names if "capital" in name or (name.startswith("log_count_") and name[-1].isupper())]
    parts["statistics: capitals"] = capitals
    parts["statistics: others"] = [i for i, _ in names if i not in set(capitals)]
    return parts


def flips_by_part(
    router: Router, pool: CandidatePool, objective: Objective, prompts: Sequence[str], kind: str
) -> dict[str, float]:
    """Share of prompts whose choice changes when only one part of the embedding, or of the request's size, changes."""
    rng, scorer = random.Random(f"0 {kind}"), Scorer.from_artifact(router.artifact)  # noqa: S311 - seeded
    parts, flipped, n = parts_of(router), dict.fromkeys(parts_of(router), 0), 0
    for text in prompts:
        changed = CHANGES[kind](text, rng)
        if changed == text:
            continue
        request = Request(objective, read_body({"prompt": text}).input_tokens)
        before, after = (router.encode(one).prompt_embedding for one in (text, changed))
        first = decide(pool, scorer.score(before), request).ranking[0]
        n += 1
        for name, columns in parts.items():
            mixed = before.copy()
            mixed[columns] = after[columns]
            flipped[name] += decide(pool, scorer.score(mixed), request).ranking[0] != first
    return {name: count / max(n, 1) for name, count in flipped.items()}


def half(perturbed: Perturbed, *, second: bool) -> Perturbed:
    """The first or second half of the prompts."""
    rows = np.array_split(np.arange(len(perturbed.before.usable)), 2)[second]

    def some(one: Weighed) -> Weighed:
        return Weighed(one.p_correct[rows], one.cost_usd[rows], one.usable[rows])

    after = {name: some(one) for name, one in perturbed.after.items()}
    return Perturbed(some(perturbed.before), after, {name: one[rows] for name, one in perturbed.changed.items()})


def price(weighed: Weighed, objective: Objective, near_ties: NearTies) -> float:
    """Mean utility that favourites cost on prompts as they are, by prediction."""
    utility, rows = weighed.utility(objective), np.arange(len(weighed.usable))
    best, settled = choices(weighed, objective), choices(weighed, objective, near_ties)
    return float((utility[rows, best] - utility[rows, settled]).mean())


def mean_rate(perturbed: Perturbed, objective: Objective, near_ties: NearTies | None = None) -> float:
    """Flips over all kinds of change, each prompt and kind counted once."""
    rows = flips(perturbed, objective, near_ties)
    return sum(row.rate * row.n for row in rows) / sum(row.n for row in rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--artifact", type=Path)
    options = parser.parse_args()
    console, router = Console(width=120), Router.load(options.artifact)
    models = read_new_config(shipped_path("proxy_config.yaml"), router.artifact).virtual_models
    prompts = held_out(router, options.data, options.prompts)
    perturbed = {name: perturb(router, one.pool, prompts) for name, one in models.items()}
    aims = {name: one.settings.objective for name, one in models.items()}
    heads = [f"{name} (λ {aims[name].cost_weight:g})" for name in models]
    kinds = Table("change", *heads, "utility lost", title=f"flips, {len(prompts)} held-out prompts")
    for rows in zip(*(flips(perturbed[name], aims[name]) for name in models), strict=True):
        shares = (f"{r.share.value:.1%} [{r.share.low:.1%}, {r.share.high:.1%}]" for r in rows)
        kinds.add_row(rows[0].change, *shares, f"{rows[list(models).index(DEFAULT)].lost:.4f}")
    console.print(kinds)
    causes = Table(
        "change", *parts_of(router), title=f"flips of {DEFAULT} when one part of the embedding changes alone"
    )
    for kind in CHANGES:
        found = flips_by_part(router, models[DEFAULT].pool, aims[DEFAULT], prompts, kind)
        causes.add_row(kind, *(f"{share:.1%}" for share in found.values()))
    console.print(causes)
    margins = Table("margin", *heads, title="near ties to favourites: flips, and utility lost to them")
    for margin in MARGINS:
        cells = []
        for name, aim in aims.items():
            learned, judged = (half(perturbed[name], second=second) for second in (False, True))
            places = usual_places(choices(learned.before, aim), len(models[name].pool.names))
            ties = NearTies(places, margin)
            cells.append(f"{mean_rate(judged, aim, ties):.1%}, {price(judged.before, aim, ties):.4f}")
        margins.add_row(f"{margin:g}", *cells)
    console.print(margins)
    rates = {f"flips_{name}": round(mean_rate(one, aims[name]), 4) for name, one in perturbed.items()}
    print(json.dumps({"prompts": len(prompts), "artifact": router.artifact.id, **rates}))


if __name__ == "__main__":
    main()
