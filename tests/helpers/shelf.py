"""An HTTP server on 127.0.0.1 whose files, interruptions and versions a test decides."""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shelf(ThreadingHTTPServer):
    """Serves `contents`; the first `breaks` answers end after `break_at` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.breaks = 0
        self.break_at = 10
        self.encoding = "identity"
        self.etag = '"v1"'
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        content = self.server.contents.get(self.path.lstrip("/"))
        self.server.ranges.append(self.headers["range"])
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.headers["range"] and self.headers["if-range"] == self.server.etag:
            found = re.fullmatch(r"bytes=(\d+)-", self.headers["range"])
            assert found
            start = int(found[1])
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(content) - start))
        self.send_header("content-encoding", self.server.encoding)
        self.send_header("etag", self.server.etag)
        self.end_headers()
        rest = content[start:]
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: self.server.break_at]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass
