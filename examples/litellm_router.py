"""Routes in front of `litellm.Router`, without a proxy: choose, then call, with the next best as fallbacks.

The candidates are LiteLLM's own model groups at the prices it bills by. Here all of them stand behind one
OpenAI-compatible server; leave out `api_base` to ask the providers themselves.
"""

import asyncio
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm, which else fetches prices

import litellm
from litellm.router import Router as LiteLLMRouter
from litellm.types.llms.openai import AllMessageValues

from embedllm_router import Router
from embedllm_router.routing.deployments import read_model_groups
from embedllm_router.routing.prompt import read_body
from embedllm_router.routing.tie_breaking import pool_with_averages

server = {
    "api_base": os.environ.get("PROXY_BASE_URL", "http://127.0.0.1:4000/v1"),
    "api_key": os.environ["LITELLM_MASTER_KEY"],
}
model_list = [
    {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{name}",
            "input_cost_per_token": usd,
            "output_cost_per_token": out,
            **server,
        },
        "model_info": {"embedllm": llm},  # the learned LLM it stands for, where its name does not say so
    }
    for name, llm, usd, out in [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 0.15e-6, 0.60e-6),
        ("o3-mini", "o3-mini-2025-01-31", 1.1e-6, 4.4e-6),
        ("claude-sonnet-4", "claude-sonnet-4-20250514", 3.0e-6, 15.0e-6),
    ]
]

chooser = Router.load()
groups = read_model_groups(model_list, litellm.model_cost, chooser.catalog)
pool = pool_with_averages([group.candidate for group in groups.values()], chooser.average)
caller = LiteLLMRouter(model_list=model_list, num_retries=0)


async def ask(messages: list[AllMessageValues], *, cost_weight: float) -> None:
    """Asks the LLM with the highest utility; if it fails, LiteLLM asks the next ones."""
    decision = chooser.route(read_body({"messages": messages}), cost_weight=cost_weight, pool=pool).decision
    best, *next_best = [one.name for one in decision.assessments() if one.excluded is None]
    answer = await caller.acompletion(model=best, messages=messages, fallbacks=[{best: next_best}])
    print(f"{best}, else {' or '.join(next_best)}: {answer.choices[0].message.content}")


async def main() -> None:
    """Two prompts, an easy one and a hard one."""
    for prompt in ("Hi!", "Find all functions f: Q -> Q with f(x + f(y)) = f(x) + y."):
        await ask([{"role": "user", "content": prompt}], cost_weight=20.0)


asyncio.run(main())
