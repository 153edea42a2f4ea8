"""The Helm chart, rendered by Helm's own engine: its objects by kind."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

__all__ = ["CHART", "RELEASE", "Objects", "full_values", "notes", "render"]

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "embedllm-router"
RELEASE, NAMESPACE = "demo", "prod"
Objects = dict[str, dict[str, Any]]


@cache
def full_values() -> dict[str, Any]:
    """Values with every part of the chart switched on."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / "full-values.yaml").read_text())
    return values


def render(values: Mapping[str, Any] | None = None, name: str = RELEASE) -> Objects:
    """The objects of a release of that name, by kind; no kind is there twice.

    Raises:
        helm_python.HelmError: The values do not meet the schema, or a template fails.
    """
    texts = _texts(values, name)
    del texts[_NOTES]
    found = [one for text in texts.values() for one in yaml.safe_load_all(text) if one is not None]
    objects = {one["kind"]: one for one in found}
    assert len(objects) == len(found)
    return objects


def notes(values: Mapping[str, Any] | None = None) -> str:
    """What is printed after an installation."""
    return _texts(values, RELEASE)[_NOTES]


_NOTES = "embedllm-router/templates/NOTES.txt"


def _texts(values: Mapping[str, Any] | None, name: str) -> dict[str, str]:
    with helm_python.Chart.load(CHART) as chart:
        return dict(chart.render(dict(values or {}), name=name, namespace=NAMESPACE))
