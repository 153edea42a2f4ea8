"""A plugin in this process, asked as LiteLLM asks it."""

import io
import json
from typing import Any

from embedllm_router.proxy.plugin import ProxyHandler

__all__ = ["ask", "events"]


def events(log: io.StringIO, name: str) -> list[dict[str, Any]]:
    """What a plugin in this process logged under a name."""
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [event for event in found if event["event"] == name]


async def ask(handler: ProxyHandler, prompt: str) -> str:
    """The model group that a prompt for "auto" is sent to."""
    data = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "litellm_call_id": prompt}
    return str((await handler.async_pre_call_hook(None, None, data, "acompletion"))["model"])
