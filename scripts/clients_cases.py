"""What scripts/clients.py has clients do, in a Python of their own: `clients_cases.py BASE_URL MODEL CLIENT...`.

The key is in API_KEY. Before each scenario it is announced to BEGIN_URL. Prints one JSON object: by client and
scenario, what the client made of the answer, or the class of its error.
"""

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel

BASE_URL, MODEL, KEY = sys.argv[1], sys.argv[2], os.environ["API_KEY"]
ASKED: Any = [{"role": "user", "content": "Where is the Eiffel Tower?"}]
WRONG: Any = [{"role": "user", "content": "refuse this"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Place(BaseModel):
    """The structured answer."""

    city: str


def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"sunny in {city}"


def of_openai() -> dict[str, Callable[[], object]]:
    """Scenarios of OpenAI's SDK."""
    client, later = (
        kind(base_url=BASE_URL, api_key=KEY, max_retries=0) for kind in (openai.OpenAI, openai.AsyncOpenAI)
    )
    create = client.chat.completions.create

    def streamed() -> str:
        stream = create(model=MODEL, messages=ASKED, stream=True)
        return "".join(event.choices[0].delta.content or "" for event in stream if event.choices)

    def with_tool() -> object:
        called = create(model=MODEL, messages=ASKED, tools=[TOOL]).choices[0].message
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "sunny"}
        return create(model=MODEL, messages=[*ASKED, called, result], tools=[TOOL]).choices[0].message.content

    return {
        "chat": lambda: create(model=MODEL, messages=ASKED).choices[0].message.content,
        "stream": streamed,
        "tools": with_tool,
        "structured": lambda: (
            client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Place).choices[0].message.parsed
        ),
        "error": lambda: create(model=MODEL, messages=WRONG),
        "async": lambda: (
            asyncio.run(later.chat.completions.create(model=MODEL, messages=ASKED)).choices[0].message.content
        ),
    }


def of_anthropic() -> dict[str, Callable[[], object]]:
    """Scenarios of Anthropic's SDK."""
    import anthropic

    client = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key=KEY, max_retries=0)

    def said(messages: Any, **more: Any) -> Any:
        return client.messages.create(model=MODEL, max_tokens=50, messages=messages, **more).content

    def streamed() -> str:
        with client.messages.stream(model=MODEL, max_tokens=50, messages=ASKED) as stream:
            return "".join(stream.text_stream)

    tools = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
    return {
        "chat": lambda: said(ASKED)[0].text,
        "stream": streamed,
        "tools": lambda: [(one.type, one.input) for one in said(ASKED, tools=tools) if one.type == "tool_use"],
        "error": lambda: said(WRONG),
    }


def of_langchain() -> dict[str, Callable[[], object]]:
    """Scenarios of LangChain."""
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    llm = ChatOpenAI(model=MODEL, base_url=BASE_URL, api_key=KEY, max_retries=0)

    async def later() -> object:
        return (await llm.ainvoke(ASKED)).content

    return {
        "chat": lambda: llm.invoke(ASKED).content,
        "stream": lambda: "".join(str(piece.content) for piece in llm.stream(ASKED)),
        "tools": lambda: [call["args"] for call in llm.bind_tools([tool(weather)]).invoke(ASKED).tool_calls],
        "structured": lambda: llm.with_structured_output(Place).invoke(ASKED),
        "error": lambda: llm.invoke(WRONG),
        "async": lambda: asyncio.run(later()),
    }


def of_pydantic_ai() -> dict[str, Callable[[], object]]:
    """Scenarios of Pydantic AI."""
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key=KEY))
    plain, typed = PydanticAgent(model), PydanticAgent(model, output_type=Place)
    equipped = PydanticAgent(model, tools=[weather])
    return {
        "chat": lambda: plain.run_sync("Where is the Eiffel Tower?").output,
        "tools": lambda: equipped.run_sync("Where is the Eiffel Tower?").output,
        "structured": lambda: typed.run_sync("Where is the Eiffel Tower?").output,
        "error": lambda: plain.run_sync("refuse this"),
    }


def of_agents() -> dict[str, Callable[[], object]]:
    """Scenarios of OpenAI's Agents SDK."""
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(disabled=True)
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    plain, equipped = Agent(name="a", model=model), Agent(name="b", model=model, tools=[function_tool(weather)])
    return {
        "chat": lambda: Runner.run_sync(plain, "Where is the Eiffel Tower?").final_output,
        "tools": lambda: Runner.run_sync(equipped, "Where is the Eiffel Tower?").final_output,
        "error": lambda: Runner.run_sync(plain, "refuse this"),
    }


def of_llm() -> dict[str, Callable[[], object]]:
    """Scenarios of Simon Willison's llm."""
    from llm.default_plugins.openai_models import AsyncChat, Chat

    about = {"api_base": BASE_URL, "supports_schema": True, "supports_tools": True}
    model, later = Chat(MODEL, key=KEY, **about), AsyncChat(MODEL, key=KEY, **about)

    async def at_once() -> object:
        return await later.prompt("Where is the Eiffel Tower?").text()

    return {
        "chat": lambda: model.prompt("Where is the Eiffel Tower?", stream=False).text(),
        "stream": lambda: "".join(model.prompt("Where is the Eiffel Tower?", stream=True)),
        "tools": lambda: model.chain("Where is the Eiffel Tower?", tools=[weather]).text(),
        "structured": lambda: model.prompt("Where is the Eiffel Tower?", schema=Place, stream=False).text(),
        "error": lambda: model.prompt("refuse this", stream=False).text(),
        "async": lambda: asyncio.run(at_once()),
    }


def of_instructor() -> dict[str, Callable[[], object]]:
    """Scenarios of Instructor, by a tool call and by a JSON schema."""
    import instructor

    kinds = {kind: getattr(openai, kind)(base_url=BASE_URL, api_key=KEY, max_retries=0) for kind in _SDKS}

    def create(mode: Any, messages: Any, kind: str = "OpenAI", **more: Any) -> Any:
        client = instructor.from_openai(kinds[kind], mode=mode)
        return client.chat.completions.create(
            model=MODEL, messages=messages, response_model=Place, max_retries=1, **more
        )

    async def later() -> object:
        return await create(instructor.Mode.TOOLS, ASKED, "AsyncOpenAI")

    return {
        "tools": lambda: create(instructor.Mode.TOOLS, ASKED),
        "structured": lambda: create(instructor.Mode.JSON_SCHEMA, ASKED),
        "json": lambda: create(instructor.Mode.JSON, ASKED),
        "error": lambda: create(instructor.Mode.TOOLS, WRONG),
        "async": lambda: asyncio.run(later()),
    }


_SDKS = ("OpenAI", "AsyncOpenAI")


def verdict(ask: Callable[[], object]) -> str:
    """What a client made of an answer, or the class of its error."""
    try:
        said = ask()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is its verdict
        return f"{type(error).__name__} {getattr(error, 'status_code', '')}".strip()
    return said.model_dump_json() if isinstance(said, BaseModel) else str(said)


CLIENTS = {
    "openai": of_openai,
    "anthropic": of_anthropic,
    "langchain-openai": of_langchain,
    "pydantic-ai": of_pydantic_ai,
    "openai-agents": of_agents,
    "llm": of_llm,
    "instructor": of_instructor,
}


def begun(client: str, what: str) -> None:
    """Says that a scenario begins."""
    with urllib.request.urlopen(f"{os.environ['BEGIN_URL']}/{client}/{what}", timeout=10):  # noqa: S310 - our own
        pass


def of(client: str) -> dict[str, str]:
    """What one client makes of its scenarios."""
    found = {}
    for what, ask in CLIENTS[client]().items():
        begun(client, what)
        found[what] = verdict(ask)
    return found


json.dump({client: of(client) for client in sys.argv[3:]}, sys.stdout)
