"""A server that answers as the hub does for one dataset, and notes what it was asked for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/something"


class FakeHub:
    """The files of a folder as the dataset `somebody/something`. asked: path and bytes of every answer."""

    def __init__(self, folder: Path) -> None:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        self.asked: list[tuple[str, int]] = []

    def answer(self, path: str, span: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a path and a Range header."""
        found = re.fullmatch(rf"/datasets/{NAME}/resolve/[^/]+/(.*)", path)
        if found and found.group(1) in self.files:
            return self._file(self.files[found.group(1)], span)
        if re.fullmatch(rf"/api/datasets/{NAME}(/revision/[^/]+)?", path):
            known = {"id": NAME, "sha": COMMIT, "private": False, "gated": False, "tags": [], "downloads": 0}
            siblings = [{"rfilename": name} for name in self.files]
            return 200, json.dumps(known | {"siblings": siblings}).encode(), {}
        if tree := re.fullmatch(rf"/api/datasets/{NAME}/tree/[^/]+(?:/(.*))?", path):
            return 200, json.dumps(self._tree(tree.group(1) or "")).encode(), {}
        missing = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
        return 404, b'{"error": "not found"}', {"x-error-code": missing}

    def _file(self, data: bytes, span: str | None) -> tuple[int, bytes, dict[str, str]]:
        headers = {"x-repo-commit": COMMIT, "etag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", span or ""):
            first, last = int(found.group(1)), min(int(found.group(2) or len(data)), len(data) - 1)
            headers["content-range"] = f"bytes {first}-{last}/{len(data)}"
            return 206, data[first : last + 1], headers
        return 200, data, headers

    def _tree(self, folder: str) -> list[dict[str, Any]]:
        here = [name for name in self.files if str(Path(name).parent) == (folder or ".")]
        folders = {name.split("/")[0] for name in self.files if "/" in name} if not folder else set()
        files = [
            {"type": "file", "path": name, "size": len(self.files[name]), "oid": "0" * 40} for name in here
        ]
        return files + [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in folders]


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    """The address at which the hub answers, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            status, body, headers = hub.answer(path, self.headers.get("range"))
            hub.asked.append((path, len(body) if with_body else 0))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
