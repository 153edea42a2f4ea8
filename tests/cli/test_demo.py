"""The shipped configuration, weights and examples, run as the README says."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import litellm
import psutil
import pytest
import yaml

from embedllm_router import Router
from embedllm_router.cli.demo import COST_WEIGHTS, PROMPTS, RunningProxy, running_proxy
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.routing.deployments import read_model_groups

ROOT = Path(__file__).parents[2]


MARK = "EMBEDLLM_TEST_STARTED_BY"


def started_with(mark: str) -> list[str]:
    """Command lines of the processes that inherited a mark; other tests' servers have none."""
    found = psutil.process_iter(["environ", "cmdline"])
    return [" ".join(p.info["cmdline"] or ()) for p in found if (p.info["environ"] or {}).get(MARK) == mark]


def test_demo_as_json_prints_nothing_else_and_leaves_nothing_running() -> None:
    mark = secrets.token_hex(8)
    done = subprocess.run(
        [sys.executable, "-m", "embedllm_router", "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, MARK: mark},
    )
    assert done.returncode == 0, done.stderr
    requests = json.loads(done.stdout)["requests"]
    assert [(r["prompt"], r["cost_weight"]) for r in requests] == [(p, w) for p in PROMPTS for w in COST_WEIGHTS]
    assert set(requests[0]) == {"prompt", "cost_weight", "chosen", "served", "p_correct", "cost_usd", "status"}
    assert all(r["status"] == 200 and r["chosen"] == r["served"] for r in requests)
    for prompt in PROMPTS:
        costs = [r["cost_usd"] for r in requests if r["prompt"] == prompt]
        assert costs == sorted(costs, reverse=True), "raising the cost weight never raises expected cost"
    assert len({r["chosen"] for r in requests}) > 3, "the prompts call for different LLMs"
    assert started_with(mark) == []


def test_a_process_left_behind_would_be_found() -> None:
    mark = secrets.token_hex(8)
    with subprocess.Popen(["sleep", "30"], env={**os.environ, MARK: mark}) as left:
        try:
            assert started_with(mark) == ["sleep 30"]
        finally:
            left.kill()


@pytest.fixture(scope="module")
def shipped_proxy() -> Iterator[RunningProxy]:
    with running_proxy(ROOT / "proxy_config.yaml") as running:
        yield running


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example_runs(shipped_proxy: RunningProxy, example: Path) -> None:
    environment = {"PROXY_BASE_URL": shipped_proxy.base_url, "LITELLM_MASTER_KEY": shipped_proxy.api_key}
    done = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("config", ["proxy_config.yaml", "examples/proxy_config.providers.yaml"])
def test_every_shipped_deployment_is_matched_and_priced(config: str) -> None:
    settings = read_proxy_config(ROOT / config)
    rows = yaml.safe_load((ROOT / config).read_text())["model_list"]
    groups = read_model_groups(rows, litellm.model_cost, Router.load().catalog)
    assert {name: g.candidate.standing_exclusion for name, g in groups.items()} == dict.fromkeys(groups)
    for virtual_model in settings.virtual_models.values():
        assert {virtual_model.default, *(virtual_model.candidates or ())} <= set(groups)


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", readme_blocks("python"), ids=lambda block: block.strip().splitlines()[0])
def test_readme_python_block_runs(shipped_proxy: RunningProxy, block: str) -> None:
    code = block.replace("http://127.0.0.1:4000/v1", shipped_proxy.base_url)
    environment = {**os.environ, "LITELLM_MASTER_KEY": shipped_proxy.api_key}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", readme_blocks("yaml"), ids=lambda block: block.strip().splitlines()[0])
def test_readme_yaml_block_is_a_working_configuration(block: str, tmp_path: Path) -> None:
    file = tmp_path / "proxy_config.yaml"
    file.write_text(block)
    written = yaml.safe_load(block)["callback_settings"]["embedllm_router"]["virtual_models"]
    assert read_proxy_config(file).virtual_models.keys() == written.keys()
