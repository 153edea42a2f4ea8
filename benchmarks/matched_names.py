"""How many chat LLMs of LiteLLM's price map weights know by name, by provider, as a table in Markdown.

python benchmarks/matched_names.py [--artifact DIR] [--at-least N]
"""

import argparse
from collections import Counter
from importlib import import_module
from pathlib import Path

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import Manifest
from embedllm_router.artifact.names import read_name
from embedllm_router.artifact.weights import MANIFEST, default_artifact_path

_CHAT = {"chat", "completion", "responses"}


def main() -> None:
    """Prints one line per provider, those of few names together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=default_artifact_path())
    parser.add_argument("--at-least", type=int, default=30, help="Names that make a provider a line of its own.")
    asked = parser.parse_args()
    catalog = Catalog(Manifest.model_validate_json((asked.artifact / MANIFEST).read_bytes()).llms)
    prices = import_module("litellm").model_cost
    provider_of = {name: str(one.get("litellm_provider")) for name, one in prices.items() if one.get("mode") in _CHAT}
    n_names = Counter(provider_of.values())
    counted: dict[str, Counter[str]] = {}
    for name, provider in provider_of.items():
        line = provider if n_names[provider] >= asked.at_least else "others"
        for column in ("names", _known_by(name, catalog)):
            counted.setdefault(line, Counter())[column] += 1
    print("| provider | names | known | by family | neither |\n|---|---|---|---|---|")
    for line in sorted(counted, key=lambda line: (line == "others", -counted[line]["names"])):
        print(_row(line, counted[line]))
    print(_row("all", sum(counted.values(), Counter[str]())))


def _known_by(name: str, catalog: Catalog) -> str:
    if catalog.match(name).llm is not None:
        return "known"
    read = read_name(name)
    return "family" if read.vendor is not None and not read.base else "neither"


def _row(line: str, n: Counter[str]) -> str:
    shares = (f"{n[column] / n['names']:.0%}" for column in ("known", "family", "neither"))
    return f"| {line} | {n['names']:,} | {' | '.join(shares)} |"


if __name__ == "__main__":
    main()
