"""Streams an answer of `model="auto"`; the decision is in the headers before the first token."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("PROXY_BASE_URL", "http://127.0.0.1:4000/v1"),
    api_key=os.environ["LITELLM_MASTER_KEY"],
)

raw = client.chat.completions.with_raw_response.create(
    model="auto",
    messages=[{"role": "user", "content": "Write a haiku about load balancers."}],
    stream=True,
)
print("chosen:", raw.headers["x-embedllm-chosen"])
for chunk in raw.parse():
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
