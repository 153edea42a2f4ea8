"""Settings are read, overridden by the environment, and refused with the field's name."""

import os
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from embedllm_router.cli.options import places
from embedllm_router.config.process import EncoderSettings, RedisAddress
from embedllm_router.config.settings import (
    read_encoder_settings,
    read_litellm_redis,
    read_proxy_config,
    read_settings,
    read_store_settings,
)
from embedllm_router.errors import ConfigError
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.prompt import EmbedText

AUTO = {"virtual_models": {"auto": {"default": "sprinter"}}}


def test_defaults() -> None:
    settings = read_settings(AUTO)
    auto = settings.virtual_models["auto"]
    assert settings.artifact is None
    assert auto.objective == Objective(0.0, near_tie_margin=0.005)
    assert (auto.max_fallbacks, auto.candidates, auto.embed_text) == (2, None, EmbedText.LAST_USER)
    assert (settings.log.format, settings.log.prompt) == ("json", False)


@pytest.mark.parametrize(
    ("said", "objective"),
    [
        ({"cost_weight": 3}, Objective(3.0)),
        ({"profile": "balanced"}, Objective(20.0)),
        ({"min_p_correct": 0.8, "max_cost_usd": 0.1}, Objective(min_p_correct=0.8, max_cost_usd=0.1)),
        ({"max_accuracy_drop": 0.02}, Objective(max_accuracy_drop=0.02)),
    ],
)
def test_objectives(said: dict[str, object], objective: Objective) -> None:
    settings = read_settings({"virtual_models": {"auto": {"default": "x", **said}}})
    assert settings.virtual_models["auto"].objective == replace(objective, near_tie_margin=0.005)


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDLLM_ROUTER_LOG__FORMAT", "console")
    monkeypatch.setenv("EMBEDLLM_ROUTER_ARTIFACT", "elsewhere")
    settings = read_settings({**AUTO, "log": {"format": "json", "prompt": True}})
    assert settings.log.format == "console"
    assert settings.log.prompt
    assert settings.artifact == Path("elsewhere")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (None, "virtual_models: Field required"),
        ({}, "virtual_models: Field required"),
        ({"virtual_models": {}}, "virtual_models:"),
        ({"virtual_models": {"auto": {}}}, "virtual_models.auto.default: Field required"),
        ({"virtual_models": {"auto": {"default": "x", "cost_weight": -1}}}, "virtual_models.auto.cost_weight:"),
        ({"virtual_models": {"auto": {"default": "x", "cost_weight": float("nan")}}}, "auto.cost_weight:"),
        (
            {"virtual_models": {"auto": {"default": "x", "cost_wieght": 1}}},
            "cost_wieght: unknown setting, did you mean 'cost_weight'?",
        ),
        (
            {"virtual_models": {"auto": {"default": "x", "budgets": [{"usd": 1, "timezone": "Europe/Berlino"}]}}},
            "no time zone 'Europe/Berlino' here: expected an IANA name such as Europe/Berlin",
        ),
        (
            {"virtual_models": {"auto": {"default": "x", "budgets": [{"usd": 1}, {"usd": 2, "timezone": "UTC"}]}}},
            "two budgets per day of scope virtual_model: they would be one sum",
        ),
        ({"virtual_models": {"auto": {"default": "x", "candidates": []}}}, "virtual_models.auto.candidates:"),
        ({"virtual_models": {"auto": {"default": "x", "embed_text": "vibes"}}}, "virtual_models.auto.embed_text:"),
        ({"virtual_models": {"auto": {"default": "x", "max_accuracy_drop": 2}}}, "auto.max_accuracy_drop:"),
        ({"virtual_models": {"auto": {"default": "x", "profile": "cheap", "cost_weight": 1}}}, "exclude each other"),
        ({**AUTO, "log": {"format": "xml"}}, "log.format:"),
        ({**AUTO, "zebra": 1}, "zebra: unknown setting"),
        ("auto", "must be a mapping, found str"),
        (dict([*AUTO.items(), (True, 1)]), "True: unknown setting"),
        ({**AUTO, "store": {"retention_days": float("inf")}}, "store.retention_days:"),
        ({**AUTO, "store": {"rotate_s": float("inf")}}, "store.rotate_s:"),
        ({"virtual_models": {"auto": {"default": "x", "sessions": {"ttl_s": float("inf")}}}}, "sessions.ttl_s:"),
        ({"virtual_models": {"auto": {"default": "x", "sessions": {"cache_s": float("inf")}}}}, "sessions.cache_s:"),
    ],
)
def test_a_wrong_section_is_named(section: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(section)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_list: []\n", "does not load the router"),
        ("- a\n", "must be a mapping, found list"),
        ("a: [\n", "is not YAML"),
        ("litellm_settings: x\n", "litellm_settings must be a mapping, found str"),
        ("litellm_settings: {callbacks: 5}\n", "does not load the router"),
        ("litellm_settings: {callbacks: embedllm_router.proxy_handler}\ncallback_settings: [1]\n", "found list"),
        ("litellm_settings: {callbacks: embedllm_router.proxy_handler}\n", "virtual_models: Field required"),
        (
            "litellm_settings: {callbacks: embedllm_router.proxy_handler}\ncallback_settings: {embedllm_ruoter: {}}\n",
            "has 'embedllm_ruoter', but no 'embedllm_router'",
        ),
        ("a: " + "[" * 5_000, "RecursionError"),
        ("a: " + "[" * 200 + "]" * 200, "RecursionError"),
        ("a: &a [*a]\n", "RecursionError"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9))]),
            "200,000",
        ),
        ("a: 2026-99-99\n", "ValueError"),
        ("a: " + "x" * 9 * 2**20, "expected at most 8,388,608"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "proxy_config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_proxy_config(file)
    assert said in str(caught.value)


def test_a_device_is_not_read_and_neither_is_what_is_not_utf_8(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="is not a file"):
            read_proxy_config(path)
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_proxy_config(tmp_path / "latin.yaml")


def test_a_section_inside_itself_is_named() -> None:
    section: dict[str, object] = {}
    section["virtual_models"] = section
    with pytest.raises(ConfigError, match="contains itself"):
        read_settings(section)


def test_neither_a_broken_file_nor_a_misspelt_setting_is_quoted(tmp_path: Path) -> None:
    """LiteLLM prints tracebacks with everything that led to them."""
    file = tmp_path / "proxy_config.yaml"
    file.write_text("model_list:\n  - api_key: 'hunter2\n")
    with pytest.raises(ConfigError, match="line ") as broken:
        read_proxy_config(file)
    store = {"urll": "postgresql://me:hunter2@db/routing"}
    with pytest.raises(ConfigError) as misspelt:
        read_settings({**AUTO, "store": store})
    for caught in (broken, misspelt):
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["STORE", "VIRTUAL_MODELS"])
def test_an_environment_variable_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"EMBEDLLM_ROUTER_{name}", "{hunter2")
    with pytest.raises(ConfigError, match=name.lower()) as caught:
        read_settings(AUTO)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    if name == "STORE":
        with pytest.raises(ConfigError, match="store"):
            read_store_settings()


@pytest.mark.parametrize(
    "text", ["router_settings: {redis_host: h, redis_port: abc}", "router_settings: [1]", "litellm_settings: 5"]
)
def test_a_wrong_redis_of_litellm_s_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "proxy_config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must be"):
        read_litellm_redis(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_proxy_config(tmp_path / "nowhere.yaml")


def test_a_planted_file_is_read(config_file: Path) -> None:
    assert set(read_proxy_config(config_file).virtual_models) == {"auto", "auto-cheap", "auto-quality"}


def test_references_to_the_environment_are_resolved_as_litellm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECORDS_URL", "postgresql://router:hunter2@localhost/records")
    settings = read_settings({**AUTO, "store": {"url": "os.environ/RECORDS_URL"}})
    assert settings.store.url is not None
    assert settings.store.url.get_secret_value() == "postgresql://router:hunter2@localhost/records"
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConfigError, match="NOT_THERE is not set"):
        read_settings({**AUTO, "store": {"url": "os.environ/NOT_THERE"}})


def test_an_endpoint_of_embeddings_is_read_and_its_key_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEI_KEY", "sk-hunter2")
    encoder = {"endpoint": "https://tei.internal:8080", "form": "tei", "api_key": "os.environ/TEI_KEY"}
    settings = read_settings({**AUTO, "encoder": encoder})
    assert settings.encoder.api_key is not None
    assert settings.encoder.api_key.get_secret_value() == "sk-hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        ({"endpoint": "localhost:8080"}, "begins with http"),
        ({"endpoint": "file:///etc/passwd"}, "begins with http"),
        ({"endpoint": "http://"}, "begins with http"),
        ({"endpoint": "http://127.0.0.1:99999/v1"}, "begins with http"),
        ({"endpoint": "http://tei/v1\r\nhost: x"}, "begins with http"),
        ({"endpoint": "http://user:hunter2@tei/v1"}, "no user, password"),
        ({"endpoint": "http://tei/v1?key=hunter2"}, "no user, password"),
        ({"api_key": "hunter2\n"}, "printable ASCII"),
        ({"form": "grpc"}, "'openai' or 'tei'"),
        ({"end_point": "http://tei/v1"}, "did you mean 'endpoint'"),
    ],
)
def test_a_wrong_endpoint_of_embeddings_is_named_and_no_secret_shown(encoder: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_settings({**AUTO, "encoder": encoder})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ({}, None),
        ({"router_settings": {"num_retries": 0}}, None),
        ({"router_settings": {"redis_host": "h", "redis_port": "7000"}}, RedisAddress(host="h", port=7000)),
        ({"router_settings": {"redis_url": "redis://h"}}, RedisAddress(url="redis://h")),
        (
            {"litellm_settings": {"cache_params": {"type": "redis", "host": "c", "password": "os.environ/SECRET"}}},
            RedisAddress(host="c", password="hunter2"),
        ),
        ({"litellm_settings": {"cache_params": {"type": "s3", "host": "c"}}}, None),
        (
            {
                "litellm_settings": {
                    "cache_params": {"type": "redis", "redis_startup_nodes": [{"host": "n", "port": 7001}], "ssl": True}
                }
            },
            RedisAddress(host="", cluster=(("n", 7001),), ssl=True),
        ),
        (
            {
                "litellm_settings": {
                    "cache_params": {
                        "type": "redis",
                        "service_name": "m",
                        "sentinel_nodes": [["s", 26379]],
                        "sentinel_password": "os.environ/SECRET",
                    }
                }
            },
            RedisAddress(host="", sentinels=(("s", 26379),), service="m", sentinel_password="hunter2"),
        ),
    ],
)
def test_the_redis_that_litellm_uses(
    config: dict[str, object], address: RedisAddress | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    assert read_litellm_redis(file) == address
    assert "hunter2" not in repr(address)


def test_the_redis_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "from-environment")
    monkeypatch.setenv("REDIS_PORT", "6400")
    assert read_litellm_redis(tmp_path / "missing.yaml") == RedisAddress(host="from-environment", port=6400)


def test_the_cluster_and_certificates_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_CLUSTER_NODES", '[{"host": "a", "port": "7001"}, {"host": "b", "port": 7002}]')
    monkeypatch.setenv("REDIS_SSL", "true")
    monkeypatch.setenv("REDIS_SSL_CA_CERTS", "/ca.pem")
    found = read_litellm_redis(tmp_path / "missing.yaml")
    options = {"ssl_ca_certs": "/ca.pem"}
    assert found == RedisAddress(host="", cluster=(("a", 7001), ("b", 7002)), ssl=True, ssl_options=options)
    assert found.location == "a:7001,b:7002"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sentinel_nodes": [["s", 26379]]}, "no service_name"),
        ({"redis_startup_nodes": "a:7001"}, "startup_nodes of LiteLLM's Redis must be a list"),
        ({"redis_startup_nodes": [{"host": "a"}]}, "startup_nodes of LiteLLM's Redis must be a list"),
    ],
)
def test_nodes_of_redis_that_cannot_be_read_are_one_sentence(
    params: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"litellm_settings": {"cache_params": {"type": "redis", **params}}}))
    with pytest.raises(ConfigError, match=message):
        read_litellm_redis(file)


def test_the_stores_settings_are_read_without_any_virtual_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that read records need no configuration; other settings in the environment do not disturb them."""
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", "somewhere")
    monkeypatch.setenv("EMBEDLLM_ROUTER_LOG__FORMAT", "xml")
    assert read_store_settings().path == Path("somewhere")
    assert places(None, None) == ["somewhere"]
    assert places(["told"], None) == ["told"]
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__ROTATE_MB", "none")
    with pytest.raises(ConfigError, match=r"EMBEDLLM_ROUTER_STORE__.* is not valid:\n  store.rotate_mb"):
        read_store_settings()


def test_settings_are_still_read_by_their_old_names_with_a_warning_that_names_the_new_one() -> None:
    old = {"default": "x", "within": 0.02, "text_from": "all", "max_novelty": 0.9, "requests": {"may_set": ["profile"]}}
    new = {
        "default": "x",
        "max_accuracy_drop": 0.02,
        "embed_text": "all",
        "max_ood_score": 0.9,
        "requests": {"allowed_overrides": ["profile"]},
    }
    with pytest.warns(FutureWarning) as told:
        read = read_settings({"virtual_models": {"auto": old}})
    assert read == read_settings({"virtual_models": {"auto": new}})
    assert sorted(str(one.message) for one in told) == [
        "the setting max_novelty is deprecated: it is called max_ood_score now",
        "the setting may_set is deprecated: it is called allowed_overrides now",
        "the setting text_from is deprecated: it is called embed_text now",
        "the setting within is deprecated: it is called max_accuracy_drop now",
    ]


def test_a_setting_by_both_names_is_refused() -> None:
    both = {"default": "x", "within": 0.02, "max_accuracy_drop": 0.03}
    with pytest.raises(ConfigError, match="within is the old name of max_accuracy_drop; keep max_accuracy_drop alone"):
        read_settings({"virtual_models": {"auto": both}})


def test_a_baseline_must_be_a_candidate_and_the_nearest_one_is_named() -> None:
    models: dict[str, dict[str, object]] = {
        "auto": {"default": "mini", "candidates": ["gpt-4o", "claude"], "baseline": "gpt-4"}
    }
    with pytest.raises(
        ConfigError, match="baseline 'gpt-4' is none of the candidates gpt-4o, claude, mini; did you mean"
    ):
        read_settings({"virtual_models": models})
    for fine in ("claude", "mini"):
        models["auto"]["baseline"] = fine
        assert read_settings({"virtual_models": models}).virtual_models["auto"].baseline == fine


def test_weights_may_lie_in_the_users_home_and_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shadow = {"artifact": "~/new"}
    models = {"auto": {"default": "mini", "shadow": shadow}}
    found = read_settings({"artifact": "~/mine", "virtual_models": models})
    assert found.artifact == tmp_path / "mine"
    assert found.virtual_models["auto"].shadow is not None
    assert found.virtual_models["auto"].shadow.artifact == tmp_path / "new"
    for wrong, said in (("", "leave it out"), ("~nobody-of-that-name/mine", "not known here")):
        with pytest.raises(ConfigError, match=f"artifact.*{said}"):
            read_settings({"artifact": wrong, "virtual_models": models})


def test_the_folder_of_a_transformer_may_lie_in_the_users_home_and_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EncoderSettings.model_validate({"folder": "~/models/mini"}).folder == tmp_path / "models" / "mini"
    assert EncoderSettings.model_validate({"folder": "models/mini"}).folder == Path("models/mini")
    with pytest.raises(ValidationError, match="not known here"):
        EncoderSettings.model_validate({"folder": "~nobody-of-that-name/mini"})
    monkeypatch.setenv("EMBEDLLM_ROUTER_ENCODER__FOLDER", "")
    with pytest.raises(ConfigError, match=r"encoder\.folder.*leave it out"):
        read_encoder_settings()
