"""Each request has its outcome, whatever id or logging the client chose, on each endpoint, streamed or not."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import httpx
from proxied import all_events, events

from embedllm_router.cli.demo import RunningProxy

CALL_ID = "chosen-by-a-client"
MATHS = [{"role": "user", "content": "integral"}]
ENDPOINTS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": MATHS},
    "completions": {"prompt": "integral"},
    "responses": {"input": "integral"},
    "messages": {"messages": MATHS, "max_tokens": 5_000},
}


def test_one_call_id_on_every_endpoint_mixes_nothing_up(proxy: RunningProxy) -> None:
    """Half of the requests care for cost alone and go to the sprinter; all are sent at once."""

    def answered(endpoint: str, model: str, *, stream: bool) -> str:
        body = {"model": model, "stream": stream, **ENDPOINTS[endpoint]}
        headers = {"x-litellm-call-id": CALL_ID, "authorization": f"Bearer {proxy.api_key}"}
        answer = httpx.post(f"{proxy.base_url}/{endpoint}", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-embedllm-chosen"] == {"auto": "wizard", "auto-cheap": "sprinter"}[model]
        return f"{model} {answer.headers['x-embedllm-served']}"

    kinds = list(product(ENDPOINTS, ("auto", "auto-cheap"), (False, True)))
    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(lambda kind: answered(*kind[:2], stream=kind[2]), kinds))
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + 10
    while outcomes.total() < len(kinds) and time.monotonic() < deadline:
        time.sleep(0.1)
        ended = [e for e in all_events(proxy) if e["event"] == "routing.served" and e["request_id"] == CALL_ID]
        outcomes = Counter(f"{e['virtual_model']} {e['served']}" for e in ended)
    assert outcomes == answers


def test_a_client_that_forbids_logging_hides_no_bill(proxy: RunningProxy) -> None:
    """LiteLLM then calls no callback but its own accounting; records, budgets and statistics are accounting too."""
    kinds = list(product(ENDPOINTS, (False, True)))
    ids = []
    for endpoint, stream in kinds:
        call_id = f"not-logged-{endpoint}-{stream}"
        headers = {"x-litellm-call-id": call_id, "authorization": f"Bearer {proxy.api_key}"}
        body = {"model": "auto", "stream": stream, "no-log": True, **ENDPOINTS[endpoint]}
        assert httpx.post(f"{proxy.base_url}/{endpoint}", json=body, headers=headers, timeout=60).status_code == 200
        ids.append(call_id)
    for call_id in ids:
        decided, ended = events(proxy, call_id, 2)
        assert (decided["event"], ended["event"]) == ("routing.decided", "routing.served")
        assert ended["served"] == "wizard"
        unknown = call_id == "not-logged-completions-True"  # LiteLLM counts no tokens of a streamed text completion
        assert ended["cost_usd"] is None if unknown else ended["cost_usd"]
