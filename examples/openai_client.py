"""Asks for `model="auto"` with the OpenAI SDK and reads from the headers which LLM answered, and why."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("PROXY_BASE_URL", "http://127.0.0.1:4000/v1"),
    api_key=os.environ["LITELLM_MASTER_KEY"],
)

raw = client.chat.completions.with_raw_response.create(
    model="auto",
    messages=[{"role": "user", "content": "Is 2^31 - 1 prime? Answer yes or no, then give the reason."}],
)
print(raw.parse().choices[0].message.content)
print("chosen:       ", raw.headers["x-embedllm-chosen"])
print("p_correct:    ", raw.headers["x-embedllm-p-correct"])
print("expected cost:", raw.headers["x-embedllm-expected-cost-usd"], "USD")
print("runner-up:    ", raw.headers["x-embedllm-runner-up"])
