"""What scripts/clients.py compares, and what it takes for routed. Its clients need the network, and run there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scripts.clients import (
    PINNED,
    STAND_IN,
    Answer,
    PassThrough,
    compared,
    decided_in,
    installed,
    message,
    not_routed,
    served,
    table,
)
from scripts.clients_sdk_tests import renamed

SCRIPT = Path(__file__).parents[1] / "scripts" / "clients_sdk_tests.py"
CHAT = "POST /v1/chat/completions"
CHOSEN, FAILED = {"x-embedllm-chosen": "gpt-4o"}, {"x-embedllm-failed-open": "TimeoutError"}
CALL = {"x-litellm-call-id": "one"}


def answered(
    headers: dict[str, str] | None = None, *, model: str = "auto", status: int = 200, request: str = CHAT
) -> Answer:
    return Answer(request, model, status, httpx.Headers(headers))


def reasons(*auto: Answer, n_pinned: int = 1, decided: tuple[str, ...] = ()) -> list[str]:
    pinned = [answered(model=PINNED)] * n_pinned
    return list(not_routed({"sdk chat": pinned}, {"sdk chat": list(auto)}, decided).values())


def test_a_request_is_routed_by_its_headers_and_a_refused_one_by_the_log() -> None:
    assert reasons(answered(CHOSEN)) == []
    refused = answered(CALL, status=400)
    assert reasons(refused, decided=("one",)) == []
    assert reasons(refused, decided=("another",)) == [f"{CHAT} was answered with 400 and no sign of the router"]
    assert reasons(answered(CALL), decided=("one",)) != []  # an answer must say it itself


def test_failing_open_is_not_success() -> None:
    assert reasons(answered(CHOSEN | FAILED)) == ["TimeoutError"]
    assert reasons(answered(FAILED, request="POST /v1/responses/compact")) == ["TimeoutError"]


def test_as_many_requests_must_come_for_auto_as_for_the_pinned_llm() -> None:
    assert reasons() == [f"0 requests for auto, 1 for {PINNED}"]
    assert reasons(answered(CHOSEN), n_pinned=2) == [f"1 requests for auto, 2 for {PINNED}"]
    assert reasons(answered(model="other"), n_pinned=0) == []


def test_what_is_not_routed_anyway_only_has_to_come() -> None:
    assert reasons(answered(request="POST /v1/responses/compact")) == []


def test_the_log_says_which_requests_were_decided(tmp_path: Path) -> None:
    lines = [{"event": "routing.decided", "request_id": "one"}, {"event": "routing.rejected", "request_id": "two"}]
    log = tmp_path / "proxy.log"
    log.write_text("\n".join(["INFO: started", *map(json.dumps, lines)]))
    assert decided_in(log) == {"one"}


def test_a_difference_has_its_row_and_tests_that_went_alike_share_one() -> None:
    pinned = {
        "sdk": {"chat": "Paris"},
        "tests": {"a.py::T::test_x[loose]": "passed", "a.py::T::test_x[strict]": "passed"},
    }
    pinned["tests"] |= {"a.py::T::test_y[loose]": "NotFoundError 404", "a.py::T::test_z[loose]": "passed"}
    auto = {"sdk": {"chat": "Paris"}, "tests": {**pinned["tests"], "a.py::T::test_z[loose]": "BadRequestError 400"}}
    rows = [" ".join(row.split()) for row in table(compared(pinned, auto, {}))]
    assert rows == [
        "sdk chat same Paris",
        "tests a.py::T::test_z[loose] DIFFERS passed | auto: BadRequestError 400",
        "tests a.py same 1 NotFoundError 404: y",
        "tests a.py same 2 passed",
    ]
    (row,) = table(compared({"sdk": {"chat": "Paris"}}, auto | {"tests": {}}, {"sdk chat": "TimeoutError"}))
    assert " ".join(row.split()) == "sdk chat NOT ROUTED Paris | auto: TimeoutError"


def test_a_scenario_that_ran_only_once_differs() -> None:
    one, another = compared({"sdk": {"chat": "Paris"}}, {"sdk": {"tools": "Paris"}}, {})
    assert (one.auto, another.pinned, one.word, another.word) == ("did not run", "did not run", "DIFFERS", "DIFFERS")


def test_the_pass_through_hands_everything_on_and_notes_who_was_asked() -> None:
    async def behind(request: Request) -> Response:
        query, asked = request.url.query, await request.body()
        return JSONResponse({"query": query, "asked": asked.decode()}, 201, {"x-embedllm-chosen": "gpt-4o"})

    methods = ["GET", "POST", "DELETE"]
    with served(Starlette(routes=[Route("/{path:path}", behind, methods=methods)])) as proxy:
        between = PassThrough(proxy)
        with served(between.app) as url, httpx.Client(base_url=url) as client:
            client.get("/begin/tests/a.py::T::test_x%5Bloose%5D")
            got = client.post("/v1/responses?include=a&include=b", json={"model": "auto"})
            client.delete("/v1/models/auto")
    assert (got.status_code, got.json()) == (201, {"query": "include=a&include=b", "asked": '{"model":"auto"}'})
    noted = [(one.request, one.model, one.status) for one in between.answers["tests a.py::T::test_x[loose]"]]
    assert noted == [("POST /v1/responses", "auto", 201), ("DELETE /v1/models/auto", None, 201)]


def test_the_stand_in_keeps_to_the_schema_it_is_given() -> None:
    schema = {"type": "object", "properties": {"status": {"type": "string", "enum": ["ok"]}}}
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Where?"}]}
    shape = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    tool = {"tools": [{"type": "function", "function": {"name": "echo", "parameters": schema}}]}
    assert message(asked)["content"] == "In Paris."
    assert json.loads(message(asked | shape)["content"]) == {"status": "ok"}
    assert json.loads(message(asked | tool)["tool_calls"][0]["function"]["arguments"]) == {"status": "ok"}
    with served(STAND_IN) as url:
        streamed = httpx.post(f"{url}/v1/responses", json={"model": "one", "stream": True}).text
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.split("\n\n")[:-2]]
    assert [one["type"] for one in events] == [
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]


def test_without_npm_what_runs_on_node_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert installed(tmp_path, ("compatcanary",)) == []
    assert capsys.readouterr().err == "npm or node is not installed: compatcanary@0.2.2 left out\n"


def test_calls_of_the_sdk_s_tests_name_the_llm() -> None:
    source = """
client.chat.completions.create(model="gpt-6", messages=[])
client.models.with_raw_response.retrieve("gpt-6")
client.models.retrieve("")
client.responses.with_streaming_response.create(stream=True)
client.responses.compact(model="gpt-6")
client.responses.retrieve("response_id")
OpenAI(base_url=base_url)
"""
    assert renamed(source, "auto").splitlines() == [
        "client.chat.completions.create(model='auto', messages=[])",
        "client.models.with_raw_response.retrieve('auto')",
        "client.models.retrieve('')",
        "client.responses.with_streaming_response.create(stream=True, model='auto', input='This is a test.')",
        "client.responses.compact(model='auto', input='This is a test.')",
        "client.responses.retrieve('response_id')",
        "OpenAI(base_url=base_url, max_retries=0)",
    ]


PLANTED = """
import os
import pytest

class Refused(Exception):
    status_code = 404

@pytest.fixture
def broken():
    raise ValueError

def test_url_and_key(key):
    assert (os.environ["TEST_API_BASE_URL"], key) == ("http://proxy/v1", "sk-made-up")

@pytest.mark.parametrize("n", [1], ids=["loose"])
def test_refused(n):
    raise Refused

def test_skipped():
    pytest.skip()

def test_broken(broken):
    pass
"""


def test_the_sdk_s_tests_run_from_a_copy_and_each_is_announced(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "api_resources"
    (folder / "chat").mkdir(parents=True)
    for place in (tmp_path / "tests", folder, folder / "chat"):
        (place / "__init__.py").touch()
    for name in ("test_completions.py", "test_responses.py", "test_models.py"):
        (folder / name).write_text("def test_nothing(): pass\n")
    (folder / "chat" / "test_completions.py").write_text(PLANTED)
    fixture = 'import os\nimport pytest\napi_key = "My API Key"\n\n@pytest.fixture\ndef key():\n    return api_key\n'
    (tmp_path / "tests" / "conftest.py").write_text(fixture)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-n auto'\n")
    between = PassThrough("http://nowhere")
    with served(between.app) as url:
        environment = os.environ | {"API_KEY": "sk-made-up", "BEGIN_URL": f"{url}/begin"}
        command = [sys.executable, str(SCRIPT), "http://proxy/v1", "auto", str(tmp_path)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(ran.stdout)["openai-tests"]
    assert {name.rpartition("::")[2]: said for name, said in found.items() if name.startswith("chat/")} == {
        "test_url_and_key": "passed",
        "test_refused[loose]": "Refused 404",
        "test_skipped": "skipped",
        "test_broken": "ValueError",
    }
    assert len(found) == 7
    assert between.answers.keys() == {f"openai-tests {name}" for name in found}
    assert "My API Key" in (tmp_path / "tests" / "conftest.py").read_text()  # what was downloaded stays as it is
