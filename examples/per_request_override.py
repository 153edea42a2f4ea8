"""Changes the trade-off for single requests: by header, by body, and by naming the candidates."""

import os

from openai import BadRequestError, OpenAI

client = OpenAI(
    base_url=os.environ.get("PROXY_BASE_URL", "http://127.0.0.1:4000/v1"),
    api_key=os.environ["LITELLM_MASTER_KEY"],
)
question = "Prove that there are infinitely many primes congruent to 3 modulo 4."


def chosen(headers: dict[str, str] | None = None, embedllm: dict[str, object] | None = None) -> str:
    """Which LLM is chosen for the question with these wishes."""
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=[{"role": "user", "content": question}],
        extra_headers=headers,
        extra_body={"embedllm": embedllm} if embedllm else None,
    )
    return str(raw.headers["x-embedllm-chosen"])


print("as configured:  ", chosen())
print("at any price:   ", chosen(headers={"x-embedllm-cost-weight": "0"}))
print("cheap:          ", chosen(embedllm={"cost_weight": 500}))
print("one of two:     ", chosen(embedllm={"candidates": ["gpt-4o", "o3-mini"]}))
try:
    chosen(embedllm={"cost_weight": -1})
except BadRequestError as error:
    print("a bad wish:     ", error.body["message"] if isinstance(error.body, dict) else error)
