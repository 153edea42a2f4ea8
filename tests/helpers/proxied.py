"""A proxy configuration in front of the planted LLMs, and the reading of a running proxy's events."""

import json
import time
from pathlib import Path
from typing import Any

from planted import SPRINTER, WIZARD

from embedllm_router.cli.demo import RunningProxy


def deployment(name: str, llm: str, price: tuple[float, float] | None, **info: object) -> dict[str, object]:
    """One row of `model_list` whose LLM is simulated."""
    params: dict[str, object] = {
        "model": f"openai/{llm}",
        "api_base": "os.environ/UPSTREAM_API_BASE",
        "api_key": "os.environ/UPSTREAM_API_KEY",
    }
    if price is not None:
        params |= {"input_cost_per_token": price[0] / 1e6, "output_cost_per_token": price[1] / 1e6}
    return {"model_name": name, "litellm_params": params, "model_info": info}


def planted_config(artifact: Path) -> dict[str, Any]:
    """A proxy in front of the planted LLMs, one unpriced and one unknown to the artifact among them."""
    return {
        "model_list": [
            deployment("wizard", WIZARD, (10.0, 40.0)),
            deployment("sprinter", "acme-fast", (0.2, 0.6), embedllm=SPRINTER),
            deployment("novice", "novice-1.5b", None),
            deployment("stranger", "stranger", (1.0, 1.0)),
        ],
        "router_settings": {
            "num_retries": 0,
            "enable_pre_call_checks": True,
            "model_group_alias": {"auto": "sprinter", "auto-cheap": "sprinter", "auto-quality": "wizard"},
        },
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {
            "embedllm_router": {
                "artifact": str(artifact),
                "virtual_models": {
                    "auto": {"default": "sprinter", "cost_weight": 1},
                    "auto-cheap": {"default": "sprinter", "cost_weight": 1000, "candidates": ["wizard", "sprinter"]},
                    "auto-quality": {"default": "wizard", "candidates": ["wizard", "sprinter", "absent"]},
                },
            }
        },
    }


def events(proxy: RunningProxy, request_id: str, n: int, timeout_s: float = 10.0) -> list[dict[str, object]]:
    """The first n routing events of one request; LiteLLM reports outcomes a moment after the answer."""
    deadline = time.monotonic() + timeout_s
    found: list[dict[str, object]] = []
    while time.monotonic() < deadline and len(found) < n:
        found = [e for e in all_events(proxy) if e.get("request_id") == request_id]
        time.sleep(0.05)
    assert len(found) >= n, f"{len(found)} of {n} events for {request_id}"
    return found


def all_events(proxy: RunningProxy) -> list[dict[str, object]]:
    lines = proxy.log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and '"event":"routing.' in line]
