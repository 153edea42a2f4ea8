"""The shipped nginx.conf, run by a real nginx: what is sent again, what is never, what clients and proxies see."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import http_calls
import httpx
import pytest
from balancer import LocalNginx, local_nginx, require_nginx
from local_server import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PIECES, PAUSE_S = 5, 0.1


async def _echo(request: Request) -> Response:
    return JSONResponse({"headers": dict(request.headers), "n_bytes": len(await request.body())})


async def _stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        for number in range(PIECES):
            yield f"data: {number}\n\n"
            await asyncio.sleep(PAUSE_S)

    return StreamingResponse(pieces(), media_type="text/event-stream")


@contextmanager
def one_that_hangs_up() -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that is killed at every request: it takes it and closes the connection. Yields port and requests."""
    taken: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    taken.append(connection.recv(65536))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1], taken
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def nobody() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    routes = [Route("/echo", _echo, methods=["GET", "POST"]), Route("/stream", _stream, methods=["POST"])]
    with served(Starlette(routes=routes)) as url:
        yield int(url.rpartition(":")[2].split("/")[0])


@pytest.fixture(scope="module")
def nginx(upstream: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNginx]:
    """In front of one proxy that answers and one that is not there."""
    with local_nginx(tmp_path_factory.mktemp("nginx"), {"alive": upstream, "gone": nobody()}) as running:
        yield running


def test_nginx_takes_the_configuration_as_it_is(tmp_path: Path) -> None:
    require_nginx()
    checked = LocalNginx(tmp_path / "one", {"proxy-1": 1}).checked()
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr.replace("user", "")


def test_a_proxy_that_cannot_be_reached_costs_no_request(nginx: LocalNginx) -> None:
    answers = [http_calls.post(f"{nginx.url}/echo", json={"n": n}) for n in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20


def test_a_request_that_was_sent_is_not_sent_again(upstream: int, tmp_path: Path) -> None:
    """It may have been answered, and billed: the client is told (502), and asks again if it wants to."""
    with ExitStack() as stack:
        port, taken = stack.enter_context(one_that_hangs_up())
        nginx = stack.enter_context(local_nginx(tmp_path, {"dying": port, "alive": upstream}))
        statuses = [http_calls.post(f"{nginx.url}/echo", content=f"request {n}").status_code for n in range(4)]
    told = statuses.count(502)
    assert told == len(taken) == 1, "it is left alone for a while after the first"
    assert statuses.count(200) == 3


def test_streams_arrive_piece_by_piece(nginx: LocalNginx) -> None:
    with http_calls.client().stream("POST", f"{nginx.url}/stream") as answer:
        arrived = [time.monotonic() for text in answer.iter_text() if "data" in text]
    assert len(arrived) == PIECES
    assert arrived[-1] - arrived[0] > PAUSE_S * (PIECES - 1) / 2


def test_a_proxy_is_told_the_client_s_address_and_not_what_the_client_says(nginx: LocalNginx) -> None:
    said = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Host": "llm.example.com"}
    heard = http_calls.get(f"{nginx.url}/echo", headers=said).json()["headers"]
    assert (heard["x-forwarded-for"], heard["x-real-ip"], heard["host"]) == (
        "127.0.0.1",
        "127.0.0.1",
        "llm.example.com",
    )


def test_large_requests_pass_and_larger_ones_are_refused(nginx: LocalNginx) -> None:
    def sent(megabytes: int) -> httpx.Response:
        return http_calls.post(f"{nginx.url}/echo", content=b"x" * (megabytes * 2**20))

    assert sent(20).json()["n_bytes"] == 20 * 2**20
    assert sent(33).status_code == 413


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/embedllm/metrics"])
def test_metrics_of_any_one_proxy_are_not_given_out(nginx: LocalNginx, path: str) -> None:
    assert http_calls.get(f"{nginx.url}{path}").status_code == 403


def test_the_log_holds_no_key_query_or_body(nginx: LocalNginx) -> None:
    http_calls.post(f"{nginx.url}/echo?key=sk-query", content="a prompt", headers={"Authorization": "Bearer sk-header"})
    text = nginx.log.read_text()
    assert all(json.loads(line)["path"] for line in text.splitlines())
    assert not [secret for secret in ("sk-query", "sk-header", "a prompt") if secret in text]
