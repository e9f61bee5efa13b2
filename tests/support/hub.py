"""Stands in for the Hugging Face Hub where datasets are written: the few paths that an upload takes, over real HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What was made and uploaded; `refuses` is a status that every request gets."""

    def __init__(self, *, private: bool = True, refuses: int | None = None) -> None:
        self.private, self.refuses = private, refuses
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> Any:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            if len(self.created) == 1:
                self.private = asked_private(self.created[0])
            return {"url": f"{self.url}/datasets/me/set"}
        if "/preupload/" in path:
            each = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": f["path"], **each} for f in json.loads(body)["files"]]}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{self.url}/datasets/me/set/commit/1", "commitOid": "1", "pullRequestUrl": None}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        return {"id": "me/set", "private": self.private, "sha": "0", "siblings": [], "tags": [], "downloads": 0}


def asked_private(created: dict[str, Any]) -> bool:
    """Whether the request to make a dataset asks for a private one, in the words of huggingface_hub 0.x or 1.x."""
    return created.get("visibility") == "private" or created.get("private") is True


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """Serve at `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization"))
            status = hub.refuses or 200
            said = {"error": f"refused {self.headers.get('Authorization')}"} if hub.refuses else None
            raw = json.dumps(said or hub.answer(self.command, self.path.partition("?")[0], body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = _do

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
