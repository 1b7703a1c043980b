"""A server on the loopback that misbehaves in the ways that servers and connections do."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(number * 7 % 251 for number in range(300_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = '"version 1"'


@dataclass
class Server:
    """What the next answers are, and what was asked for.

    Attributes:
        content: the file.
        break_after: bytes after which each of the next connections is cut; when none is left, all is sent.
        statuses: codes that the next requests are answered with.
        etag, ranges: whether the server names versions, and heeds Range.
        stall: seconds without a byte before the content.
        asked: path, Range and If-Range of each request.
    """

    url: str = ""
    content: bytes = CONTENT
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    etag: str | None = ETAG
    ranges: bool = True
    stall: float = 0.0
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Answers as the `Server` of its HTTP server says."""

    def do_GET(self) -> None:
        server: Server = self.server.plan  # type: ignore[attr-defined]
        wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
        server.asked.append((self.path, wanted, version))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file.bin")
            self.end_headers()
            return
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = 0
        if wanted and server.ranges and version == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
        time.sleep(server.stall)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after.pop(0)] if server.break_after else body)

    def log_message(self, *_: object) -> None:
        """Silence."""


class QuietServer(ThreadingHTTPServer):
    """Serves what its plan says."""

    plan: Server

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs while the block does."""
    listening = QuietServer(("127.0.0.1", 0), Handler)
    listening.plan = Server(f"http://127.0.0.1:{listening.server_port}/file.bin")
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield listening.plan
    listening.shutdown()
    listening.server_close()
