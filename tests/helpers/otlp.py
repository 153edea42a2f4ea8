"""An OTLP/HTTP receiver on 127.0.0.1 that keeps the spans it is sent."""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver(ThreadingHTTPServer):
    """Where spans are posted to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.spans: list[Any] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait_for(self, wanted: Callable[[Any], bool], timeout_s: float = 15.0) -> Any:
        """The first span that is wanted."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = next((span for span in list(self.spans) if wanted(span)), None)
            if found is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not among {[span.name for span in self.spans]}")


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in http.server
        """Keeps quiet."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Runs a receiver."""
    server = Receiver()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
