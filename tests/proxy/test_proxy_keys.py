"""The running proxy with several keys: who is routed how, who may see what, and which groups are left alone."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import http_calls
import httpx
import pytest
import yaml
from planted import WIZARD
from proxied import events, planted_config

from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.records.writer.erase import Erased, by_user, erase_files, hasher_of

MATHS: Any = [{"role": "user", "content": "integral"}]


@pytest.fixture(scope="module")
def proxy_with_keys(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    folder = tmp_path_factory.mktemp("keys")
    shutil.copy(Path(__file__).parents[1] / "helpers" / "proxy_keys.py", folder)
    config: dict[str, Any] = planted_config(artifact_dir)
    config["general_settings"]["custom_auth"] = "proxy_keys.user_api_key_auth"
    config["router_settings"] |= {"allowed_fails": 0, "cooldown_time": 60}
    config["router_settings"]["model_group_alias"]["auto-own"] = "sprinter"
    virtual = config["callback_settings"]["embedllm_router"]["virtual_models"]
    virtual["auto-own"] = {"default": "sprinter", "access": "enforce"}
    virtual["auto-unlisted"] = {"default": "sprinter"}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file, failures={WIZARD: 500}) as proxy:
        yield proxy


def ask(proxy: RunningProxy, key: str, model: str = "auto") -> httpx.Response:
    body = {"model": model, "messages": MATHS}
    headers = {"authorization": f"Bearer {key}"}
    return http_calls.post(f"{proxy.base_url}/chat/completions", json=body, headers=headers, timeout=30)


def test_a_group_whose_every_deployment_rests_is_left_alone(proxy_with_keys: RunningProxy) -> None:
    first = ask(proxy_with_keys, "sk-narrow")  # nothing failed before: this is the file's first test
    assert (first.headers["x-embedllm-chosen"], first.headers["x-embedllm-served"]) == ("wizard", "sprinter")
    _, served = events(proxy_with_keys, first.headers["x-litellm-call-id"], 2)
    failed = served["failed_attempts"]
    assert failed in (["wizard: InternalServerError"], ["wizard: RouterRateLimitError"]), "LiteLLM may let it rest"
    waited, of_the_last = served["total_ms"], served["latency_ms"]
    assert isinstance(waited, float)
    assert isinstance(of_the_last, float)
    assert waited >= of_the_last > 0
    deadline = time.monotonic() + 10
    while (chosen := ask(proxy_with_keys, "sk-narrow").headers["x-embedllm-chosen"]) == "wizard":
        assert time.monotonic() < deadline, "the failing group was chosen again and again"
        time.sleep(0.2)
    assert chosen == "sprinter"
    assert '"excluded":"cooled_down"' in proxy_with_keys.log.read_text()


def test_a_key_s_own_objective_decides(proxy_with_keys: RunningProxy) -> None:
    assert ask(proxy_with_keys, "sk-frugal").headers["x-embedllm-chosen"] == "sprinter"


def test_enforced_access_keeps_to_what_the_key_may_call(proxy_with_keys: RunningProxy) -> None:
    assert ask(proxy_with_keys, "sk-narrow", "auto-own").headers["x-embedllm-chosen"] == "sprinter"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", {"messages": MATHS}),
        ("/v1/responses/input_tokens", {"input": "integral"}),
        ("/responses/input_tokens", {"input": "integral"}),
        ("/openai/v1/responses/input_tokens", {"input": "integral"}),
        ("/utils/token_counter", {"messages": MATHS}),
    ],
)
def test_counting_tokens_goes_past_no_rule(proxy_with_keys: RunningProxy, path: str, body: dict[str, Any]) -> None:
    """LiteLLM counts for the alias's target, and may ask its provider; only LLMs the key may call see a prompt."""

    def counted(model: str, key: str = "sk-narrow") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        url = f"{proxy_with_keys.base_url.removesuffix('/v1')}{path}"
        return http_calls.post(url, json={"model": model, **body}, headers=headers, timeout=30)

    assert counted("auto", "sk-frugal").status_code == 200
    refused = counted("auto-own")
    assert (refused.status_code, "has rules" in refused.text) == (400, True)
    assert counted("auto-own", "sk-unknown").status_code == 401


def test_a_key_for_an_alias_s_target_alone_gets_litellm_s_own_refusal(proxy_with_keys: RunningProxy) -> None:
    refused = ask(proxy_with_keys, "sk-target")
    assert refused.status_code == 403
    assert "x-embedllm-chosen" not in refused.headers
    assert refused.json()["error"]["type"] == "key_model_access_denied"
    assert ask(proxy_with_keys, "sk-target", "sprinter").status_code == 200


def test_a_virtual_model_without_an_alias_is_routed(proxy_with_keys: RunningProxy) -> None:
    assert "x-embedllm-chosen" in ask(proxy_with_keys, "sk-unlisted", "auto-unlisted").headers


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("chat/completions", {"user": "ada@example.com"}),
        ("messages", {"metadata": {"user_id": "grace"}, "max_tokens": 5}),
        ("chat/completions", {}),
    ],
)
def test_what_a_user_asked_is_erased_beside_the_running_proxy(
    proxy_with_keys: RunningProxy, path: str, named: dict[str, Any]
) -> None:
    """The end user's where one is named, else what the owner of the key asked."""
    user = named.get("user") or named.get("metadata", {}).get("user_id") or "owner-of-unlisted"
    body = {"model": "auto-unlisted", "messages": MATHS, **named}
    headers = {"authorization": "Bearer sk-unlisted"}
    answer = http_calls.post(f"{proxy_with_keys.base_url}/{path}", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    records = proxy_with_keys.log.parent / "records"
    theirs = by_user(user, hasher_of(None, records))
    deadline = time.monotonic() + 30
    while not erase_files(records, theirs, dry_run=True).requests:
        assert time.monotonic() < deadline, "no record names the user"
        time.sleep(0.2)
    found = erase_files(records, theirs)
    assert (found.requests > 0, found.in_use) == (True, ())
    while erase_files(records, theirs) != Erased():  # the record of an earlier request came first
        assert time.monotonic() < deadline, "erased records are back"


@pytest.mark.parametrize("path", ["api/overview", "api/health", "metrics"])
def test_only_administrators_and_viewers_see_records(proxy_with_keys: RunningProxy, path: str) -> None:
    url = proxy_with_keys.base_url.replace("/v1", f"/embedllm/{path}")
    status = {
        key: http_calls.get(url, headers={"authorization": f"Bearer {key}"}, timeout=30).status_code
        for key in ("sk-admin", "sk-viewer", "sk-narrow", "sk-nobody")
    }
    assert (status["sk-admin"], status["sk-viewer"]) == (200, 200)
    assert status["sk-narrow"] in {401, 403}
    assert status["sk-nobody"] in {401, 403}


def test_a_viewer_changes_nothing(proxy_with_keys: RunningProxy) -> None:
    """Neither reloads, nor gives feedback on anybody's answer or under another source's name."""
    root = proxy_with_keys.base_url.replace("/v1", "/embedllm")
    theirs = ask(proxy_with_keys, "sk-narrow").headers["x-litellm-call-id"]

    def post(path: str, key: str, **body: object) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return http_calls.post(f"{root}/{path}", json=body, headers=headers, timeout=30).status_code

    assert post("reload", "sk-viewer") == 403
    assert post("feedback", "sk-viewer", request_id=theirs, thumb="up") in {403, 404}
    assert post("feedback", "sk-viewer", request_id=theirs, thumb="up", source="judge:strict") == 403
    assert post("feedback", "sk-admin", request_id=theirs, thumb="up", source="judge:strict") == 202


def test_health_is_public_and_holds_no_secret(proxy_with_keys: RunningProxy) -> None:
    root = proxy_with_keys.base_url.replace("/v1", "/embedllm")
    assert http_calls.get(f"{root}/healthz", timeout=30).status_code == 200
    ready = http_calls.get(f"{root}/readyz", timeout=30)
    assert ready.status_code == 200
    assert json.loads(ready.text)["ready"]


def test_feedback_comes_from_who_asked_and_from_administrators(proxy_with_keys: RunningProxy) -> None:
    """A key of LiteLLM's internal users needs `/embedllm/feedback` in its `allowed_routes`; LiteLLM decides."""
    url = proxy_with_keys.base_url.replace("/v1", "/embedllm/feedback")
    verdict = {"request_id": ask(proxy_with_keys, "sk-narrow").headers["x-litellm-call-id"], "thumb": "up"}

    def given(key: str, **changes: object) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return http_calls.post(url, json={**verdict, **changes}, headers=headers, timeout=30).status_code

    assert given("sk-admin") == 202
    assert given("sk-admin", source="judge:strict") == 202
    assert given("sk-admin", score=2) == 400
    assert given("sk-admin", request_id="nobody's") == 404
    assert given("sk-narrow") == 202
    assert given("sk-narrow", source="judge:strict") == 403
    assert given("sk-unlisted") == 404
    assert given("sk-nobody") in {401, 403}
