"""How often a change that leaves a prompt's meaning changes who answers it, why, and what would help.

    python benchmarks/bench_stability.py --data DIR... [--prompts N] [--artifact DIR]

Held-out prompts of the data sets the weights learned from, as many of each, are routed by the shipped configuration:
as they are, and with typos, other white space, case, punctuation, politeness, frames or wording. Four tables: flips by
kind of change and virtual model, by the objective alone, and with near ties going to favourites as they are served;
flips when only one part of the prompt embedding changes; and what other margins do to near ties. Ends with one line of
JSON that has both.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from stability import (
    CHANGES,
    NearTies,
    Perturbed,
    Weighed,
    choices,
    flips,
    near_ties_as_served,
    perturb,
)

from embedllm_router import Router
from embedllm_router.analysis.replay.change import read_new_config
from embedllm_router.artifact.manifest import EncoderSpec
from embedllm_router.artifact.weights import shipped_path
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.routing.decision import Request
from embedllm_router.routing.policy import Objective, rank_candidates
from embedllm_router.routing.pool import CandidatePool
from embedllm_router.routing.prompt import read_body
from embedllm_router.serving.arms import VirtualModel

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
        first = rank_candidates(pool, scorer.score(before), request).ranking[0]
        n += 1
        for name, columns in parts.items():
            mixed = before.copy()
            mixed[columns] = after[columns]
            flipped[name] += rank_candidates(pool, scorer.score(mixed), request).ranking[0] != first
    return {name: count / max(n, 1) for name, count in flipped.items()}


def price(weighed: Weighed, objective: Objective, near_ties: NearTies | None) -> float:
    """Mean utility that favourites cost on prompts as they are, by prediction."""
    utility, rows = weighed.utility(objective), np.arange(len(weighed.usable))
    best, settled = choices(weighed, objective), choices(weighed, objective, near_ties)
    return float((utility[rows, best] - utility[rows, settled]).mean())


def mean_rate(perturbed: Perturbed, objective: Objective, near_ties: NearTies | None = None) -> float:
    """Flips over all kinds of change, each prompt and kind counted once."""
    rows = flips(perturbed, objective, near_ties)
    return sum(row.rate * row.n for row in rows) / sum(row.n for row in rows)


@dataclass(frozen=True, slots=True)
class Case:
    """A virtual model and what changes to prompts did to it."""

    model: VirtualModel
    perturbed: Perturbed

    @property
    def aim(self) -> Objective:
        """What the best candidate is."""
        return self.model.settings.objective

    def near_ties(self, margin: float | None = None) -> NearTies | None:
        """Favourites as they are served, within a margin; its own by default."""
        return near_ties_as_served(self.model.pool, self.aim, margin)


def heads(cases: Mapping[str, Case]) -> list[str]:
    """Names and cost weights of the virtual models."""
    return [f"{name} (λ {one.aim.cost_weight:g})" for name, one in cases.items()]


def by_kind(cases: Mapping[str, Case], *, served: bool) -> Table:
    """Flips by kind of change, with or without near ties going to favourites."""
    how = "near ties to favourites as served" if served else "by the objective alone"
    table = Table("change", *heads(cases), "utility lost", title=f"flips, {how}")
    ties = {name: one.near_ties() if served else None for name, one in cases.items()}
    found = {name: flips(one.perturbed, one.aim, ties[name]) for name, one in cases.items()}
    for place, kind in enumerate(CHANGES):
        rows = {name: each[place] for name, each in found.items()}
        shares = (f"{r.share.value:.1%} [{r.share.low:.1%}, {r.share.high:.1%}]" for r in rows.values())
        table.add_row(kind, *shares, f"{rows[DEFAULT].lost:.4f}")
    table.add_row("all", *(f"{mean_rate(one.perturbed, one.aim, ties[name]):.1%}" for name, one in cases.items()), "")
    return table


def by_part(router: Router, case: Case, prompts: Sequence[str]) -> Table:
    """Flips when one part of the embedding changes alone."""
    table = Table("change", *parts_of(router), title=f"flips of {DEFAULT} when one part of the embedding changes alone")
    for kind in CHANGES:
        found = flips_by_part(router, case.model.pool, case.aim, prompts, kind)
        table.add_row(kind, *(f"{share:.1%}" for share in found.values()))
    return table


def by_margin(cases: Mapping[str, Case]) -> Table:
    """Flips over all kinds of change, and utility lost to favourites, by margin."""
    table = Table("margin", *heads(cases), title="near ties to favourites: flips, and utility lost to them")
    for margin in MARGINS:
        cells = []
        for one in cases.values():
            ties = one.near_ties(margin)
            lost = price(one.perturbed.before, one.aim, ties)
            cells.append(f"{mean_rate(one.perturbed, one.aim, ties):.1%}, {lost:.4f}")
        table.add_row(f"{margin:g}", *cells)
    return table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--artifact", type=Path, help="weights folder; the shipped one by default")
    parser.add_argument("--quick", action="store_true", help="leave out the table of parts, which takes longest")
    options = parser.parse_args()
    console, router = Console(width=120), Router.load(options.artifact)
    models = read_new_config(shipped_path("proxy_config.yaml"), router.artifact).virtual_models
    prompts = held_out(router, options.data, options.prompts)
    cases = {name: Case(one, perturb(router, one.pool, prompts)) for name, one in models.items()}
    tables = [by_kind(cases, served=False), by_kind(cases, served=True), by_margin(cases)]
    for table in tables if options.quick else [*tables, by_part(router, cases[DEFAULT], prompts)]:
        console.print(table)
    rates = {
        f"{what}_{name}": round(mean_rate(one.perturbed, one.aim, one.near_ties() if what == "served" else None), 4)
        for what in ("flips", "served")
        for name, one in cases.items()
    }
    print(json.dumps({"prompts": len(prompts), "artifact": router.artifact.id, **rates}))


if __name__ == "__main__":
    main()
