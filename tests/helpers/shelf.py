"""An HTTP server on 127.0.0.1 whose files and interruptions a test decides; it answers as Hugging Face does, too."""

import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shelf(ThreadingHTTPServer):
    """Serves `contents` by the last part of a path; the first `breaks` answers end after `break_at` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.breaks = 0
        self.break_at = 10
        self.asked: list[tuple[str, str | None]] = []
        """Path and range of every GET."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_HEAD(self) -> None:
        content = self._content()
        if content is not None:
            self._start(200, len(content))

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["range"]))
        content = self._content()
        if content is None:
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers["range"] or "")
        rest = content[int(found[1]) :] if found else content
        self._start(206 if found else 200, len(rest))
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: self.server.break_at]
        self.wfile.write(rest)

    def _content(self) -> bytes | None:
        content = self.server.contents.get(self.path.rpartition("/")[2])
        if content is None:
            self._start(404, 0)
        return content

    def _start(self, status: int, length: int) -> None:
        self.send_response(status)
        if status == HTTPStatus.NOT_FOUND:
            self.send_header("x-error-code", "EntryNotFound")
        self.send_header("content-length", str(length))
        self.send_header("etag", '"v1"')
        self.send_header("x-repo-commit", "0" * 40)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
