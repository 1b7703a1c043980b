"""A hub on the loopback: the three kinds of request that fetching a repository makes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStub:
    """Serves the files of a folder as the repository owner/name.

    Attributes:
        address: of the server.
        fetched: names of the files that were sent.
    """

    def __init__(self, folder: Path, repo_id: str):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.repo_id = repo_id
        self.fetched: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[int, bytes, str]:
        """Status, body and name of the file of a request."""
        api, resolve = f"/api/models/{self.repo_id}", f"/{self.repo_id}/resolve/{COMMIT}/"
        if path.startswith(resolve) and path.removeprefix(resolve) in self.files:
            name = path.removeprefix(resolve)
            return 200, self.files[name], name
        if path.startswith(f"{api}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in self.files.items()
            ]
            return 200, json.dumps(entries).encode(), ""
        if path.startswith(api):
            siblings = [{"rfilename": name} for name in self.files]
            return 200, json.dumps({"id": self.repo_id, "sha": COMMIT, "siblings": siblings}).encode(), ""
        return 404, b"{}", ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, name = stub.answer(self.path.split("?")[0])
                self._send_head(status, body)
                if self.command == "GET":
                    self.wfile.write(body)
                    stub.fetched += [name] if name else []

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def _send_head(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{_etag(body)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Not on the console."""

        return Handler


@contextmanager
def serving(folder: Path, repo_id: str) -> Iterator[HubStub]:
    """Serve while the block runs."""
    stub = HubStub(folder, repo_id)
    thread = Thread(target=stub.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
