"""`doctor` finds what is planted in a configuration, says what helps, and finds nothing in a healthy one."""

import json
import socket
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from embedding_server import MODEL, by_words, embedding_server, spec_of_words
from planted import NOVICE, SPRINTER, WIZARD
from planted_transformer import transformer_artifact
from proxied import deployment
from starlette.responses import Response
from typer.testing import CliRunner

from embedllm_router.cli.main import app
from embedllm_router.proxy.doctor import Checkup, check

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def healthy(artifact_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration in which nothing is the matter."""
    for name in ("UPSTREAM_API_BASE", "UPSTREAM_API_KEY", "LITELLM_MASTER_KEY"):
        monkeypatch.setenv(name, "sk-secret")
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(tmp_path / "records"))
    monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(tmp_path / "state"))
    return {
        "model_list": [deployment("wizard", WIZARD, (10.0, 40.0)), deployment("sprinter", SPRINTER, (0.2, 0.6))],
        "router_settings": {"num_retries": 0, "timeout": 60, "model_group_alias": {"auto": "sprinter"}},
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {
            "embedllm_router": {"artifact": str(artifact_dir), "virtual_models": {"auto": {"default": "sprinter"}}}
        },
    }


def checked(config: dict[str, Any], tmp_path: Path, port: int = 0) -> Checkup:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return check(file, port=port)


def test_nothing_is_found_where_nothing_is_the_matter(healthy: dict[str, Any], tmp_path: Path) -> None:
    found = checked(healthy, tmp_path)
    assert (found.findings, found.ok) == ((), True)
    wizard, sprinter = found.patients
    assert (wizard.llm, wizard.how, wizard.price_from, wizard.excluded) == (WIZARD, "spelling", "deployment", None)
    assert (sprinter.input_usd_per_mtok, sprinter.output_usd_per_mtok) == (0.2, 0.6)
    assert wizard.p_correct is not None
    assert 0 < wizard.p_correct < 1


def test_what_nobody_says_an_llm_can_do_is_no_ability(healthy: dict[str, Any], tmp_path: Path) -> None:
    healthy["model_list"][0]["model_info"] = {"supports_vision": True, "supports_audio_input": False}
    wizard, sprinter = checked(healthy, tmp_path).patients
    assert wizard.can == ("vision",)
    assert wizard.unknown == ("pdf", "tools", "json_schema")
    assert sprinter.can == ()
    shown = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "config.yaml")], env={"COLUMNS": "300"})
    assert all(said in shown.stdout for said in ("pdf?", "tools?", "json_schema?"))
    assert "vision?, audio?" in " ".join(shown.stdout.split())


def test_an_endpoint_of_embeddings_that_does_not_answer_is_found(healthy: dict[str, Any], tmp_path: Path) -> None:
    transformer_artifact(tmp_path, spec_of_words())
    with embedding_server() as server:
        encoder = {"endpoint": server.url, "timeout_ms": 20_000}
        settings_of(healthy).update(artifact=str(tmp_path / "artifact"), encoder=encoder)
        assert checked(healthy, tmp_path).findings == ()
        server.spoil = lambda _: Response(status_code=401)
        (found,) = checked(healthy, tmp_path).findings
        assert (found.level, found.check, found.subject) == ("error", "encoder", MODEL)
        assert "answered 401: check encoder.api_key" in found.found
        server.spoil, server.embed = None, lambda texts: [row[::-1] for row in by_words(texts)]
        (found,) = checked(healthy, tmp_path).findings
        assert (found.check, "embeds otherwise" in found.found) == ("weights", True)


def test_an_endpoint_that_the_weights_do_not_need_is_named(healthy: dict[str, Any], tmp_path: Path) -> None:
    settings_of(healthy).update(encoder={"endpoint": "http://127.0.0.1:9/v1"})
    (found,) = checked(healthy, tmp_path).findings
    assert (found.level, found.check, found.subject) == ("warning", "encoder", "http://127.0.0.1:9/v1")
    assert "no prompt is sent there" in found.found


def test_a_folder_that_the_weights_do_not_need_is_named(healthy: dict[str, Any], tmp_path: Path) -> None:
    settings_of(healthy).update(encoder={"folder": "/models/mini"})
    (found,) = checked(healthy, tmp_path).findings
    assert (found.level, found.check, found.subject) == ("warning", "encoder", "/models/mini")
    assert "nothing is read there" in found.found


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["callback_settings"]["embedllm_router"]
    return found


def auto(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = settings_of(config)["virtual_models"]["auto"]
    return found


def add(*rows: dict[str, object]) -> Change:
    return lambda config: config["model_list"].extend(rows)


AZURE: dict[str, object] = {
    "model_name": "ours",
    "litellm_params": {"model": "azure/gpt-9", "api_key": "x", "api_base": "y"},
}
PRICED_IN_WORDS = deployment("words", NOVICE, (1, 1))
PRICED_IN_WORDS["litellm_params"] = {**PRICED_IN_WORDS["litellm_params"], "input_cost_per_token": "cheap"}  # type: ignore[dict-item]
BARE: dict[str, object] = {
    "model_name": "bare",
    "litellm_params": {"model": f"openai/{WIZARD}"},
    "model_info": {"base_model": "gpt-4o"},
}


@pytest.mark.parametrize(
    ("change", "level", "subject", "said"),
    [
        (lambda c: c["litellm_settings"].clear(), "error", None, "callbacks"),
        (lambda c: auto(c).update(default="absent"), "error", "auto", "'absent' is no model group"),
        (lambda c: auto(c).update(candidates=["wizard", "absent"]), "error", "auto", "'absent' is no model group"),
        (lambda c: auto(c).update(labels=["eu"]), "warning", "auto", "breaks its own rule on label"),
        (lambda c: settings_of(c).update(artifact="/nowhere"), "error", "/nowhere", "cannot be loaded"),
        (lambda c: auto(c).update(baseline="sprintr"), "error", "auto", "its baseline 'sprintr' is none of its"),
        (lambda c: auto(c).update(cost_wieght=1), "error", None, "did you mean 'cost_weight'"),
        (add(deployment("stranger", "acme-9", (1, 1))), "warning", "stranger", "nothing is known of 'openai/acme-9'"),
        (add(deployment("gift", NOVICE, None)), "warning", "gift", "price"),
        (add(deployment("gift", NOVICE, None)), "warning", "gift", "neither the deployment nor LiteLLM's price map"),
        (add(PRICED_IN_WORDS), "error", None, "found 'cheap', which counts as none"),
        (add(deployment("e", "gpt-5.4", (1, 1), embedllm_efforts=["lo"])), "error", None, "found lo"),
        (add(deployment("e", "gpt-9", (1, 1), embedllm_efforts=["low"])), "info", "e:low", "family, date and price"),
        (add(deployment("e", "gpt-4o", (1, 1), embedllm_efforts=["low"])), "warning", "e:low", "would refuse"),
        (
            add(deployment("e", "gpt-5", (1, 1), embedllm_efforts=["none"])),
            "warning",
            "e:none",
            "no reasoning_effort 'none'",
        ),
        (add(deployment("newcomer", "gpt-9", (1, 1))), "info", "newcomer", "vendor, family, date and price"),
        (add(deployment("cousin", "a", (1, 1), embedllm_like=WIZARD)), "info", "cousin", "said to be like"),
        (add(deployment("typo", "a", (1, 1), embedllm_like="wizrd")), "warning", "typo", "embedllm_like names 'wizrd'"),
        (add(deployment("acme/*", "acme/*", None)), "info", "acme/*", "stands for many names"),
        (add(deployment("dear", SPRINTER, (99, 99))), "info", "auto: dear", "no cost weight chooses it"),
        (add(deployment("sprinter", WIZARD, (1, 1))), "warning", "sprinter", "predicted as the worst"),
        (lambda c: auto(c).update(candidates=["acme/x"]), "error", "auto", "'acme/x' is no model group"),
        (add(AZURE), "warning", "ours", "an Azure deployment"),
        (add(BARE), "warning", "bare", "OPENAI_API_KEY"),
        (add(deployment("auto", WIZARD, (1, 1))), "warning", "auto", "hides it"),
        (lambda c: c["router_settings"].update(num_retries=3), "warning", "router_settings.num_retries", "sprinter"),
        (lambda c: c["router_settings"].pop("num_retries"), "info", "router_settings.num_retries", "2 retries"),
        (lambda c: c["router_settings"].pop("timeout"), "warning", "router_settings.timeout", "6,000 s"),
        (lambda c: c["router_settings"].pop("model_group_alias"), "info", "auto", "/v1/models"),
        (
            lambda c: c["general_settings"].update(background_health_checks=True),
            "warning",
            "general_settings.background_health_checks",
            "paid request",
        ),
        (lambda c: settings_of(c).update(store={"enabled": False}), "info", "store.enabled", "no records"),
        (
            lambda c: settings_of(c).update(state={"redis_url": "redis://user:pw@127.0.0.1:1/0"}),
            "error",
            "redis",
            "127.0.0.1:1 does not answer",
        ),
    ],
)
def test_what_is_planted_is_found(  # noqa: PLR0913, PLR0917 - one row of the table
    healthy: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    level: str,
    subject: str | None,
    said: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = deepcopy(healthy)
    change(config)
    found = checked(config, tmp_path)
    one = next(one for one in found.findings if said in one.found)
    assert one.level == level
    assert subject is None or one.subject == subject
    assert len(one.remedy) > 10
    assert found.ok == (level != "error")
    assert "sk-secret" not in str(found)
    assert ":pw@" not in str(found)


def test_a_missing_price_names_the_deployment_and_what_to_add_to_it(healthy: dict[str, Any], tmp_path: Path) -> None:
    gift = deployment("gift", NOVICE, None)
    gift["litellm_params"] |= {"input_cost_per_token": 1e-6}  # type: ignore[operator]
    healthy["model_list"].append(gift)
    (one,) = (one for one in checked(healthy, tmp_path).findings if one.check == "price")
    assert one.remedy.startswith(
        f"add output_cost_per_token to litellm_params of openai/{NOVICE} in the model group gift"
    )


def test_a_pool_that_uncertainty_excludes_is_told_to_change_it(healthy: dict[str, Any], tmp_path: Path) -> None:
    healthy["model_list"] = [deployment("newcomer", "gpt-9", (1, 1)), deployment("next", "gpt-10", (1, 1))]
    auto(healthy).update(default="newcomer", uncertainty="exclude")
    (one,) = (one for one in checked(healthy, tmp_path).findings if "no candidate can be chosen" in one.found)
    assert (one.level, one.subject) == ("error", "auto")
    assert "uncertainty: exclude" in one.remedy


def test_an_empty_list_of_models_and_a_missing_file_are_told_what_to_do(
    healthy: dict[str, Any], tmp_path: Path
) -> None:
    healthy["model_list"] = []
    remedies = {one.check: one.remedy for one in checked(healthy, tmp_path).findings}
    assert remedies["default"] == "fill in model_list"
    (one,) = check(tmp_path / "absent.yaml", port=0).findings
    assert not one.found.endswith(".")
    assert one.remedy == "correct the file or its path"


def test_a_variable_that_is_not_set_is_named_once(
    healthy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPSTREAM_API_KEY")
    (one,) = checked(healthy, tmp_path).findings
    assert (one.level, one.subject) == ("error", "UPSTREAM_API_KEY")
    assert "wizard, sprinter" in one.found


@pytest.mark.parametrize("what", ["store", "state"])
def test_a_folder_that_cannot_be_written(
    healthy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(f"EMBEDLLM_ROUTER_{what.upper()}__PATH", str(tmp_path / "file" / "records"))
    (one,) = checked(healthy, tmp_path).findings
    assert (one.level, one.check) == ("error", what)
    assert f"{what}.path" in one.remedy


def test_a_port_that_is_taken(healthy: dict[str, Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (one,) = checked(healthy, tmp_path, port=port).findings
    assert (one.level, one.subject) == ("warning", str(port))


@pytest.mark.parametrize(("default", "code"), [("sprinter", 0), ("absent", 1)])
def test_the_command_s_exit_code_is_for_ci(healthy: dict[str, Any], tmp_path: Path, default: str, code: int) -> None:
    auto(healthy)["default"] = default
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(healthy))
    done = CliRunner().invoke(app, ["doctor", "--config", str(file), "--port", "0", "--json"])
    assert done.exit_code == code
    found = json.loads(done.stdout)
    assert found["ok"] == (code == 0)
    assert [one["name"] for one in found["patients"]] == ["wizard", "sprinter"]
    shown = CliRunner().invoke(app, ["doctor", "--config", str(file), "--port", "0"])
    assert shown.exit_code == code
    assert ("remedy: " in shown.stdout) == (code == 1)


def test_a_file_that_is_not_there_is_one_finding(tmp_path: Path) -> None:
    (one,) = check(tmp_path / "absent.yaml").findings
    assert "cannot read" in one.found
