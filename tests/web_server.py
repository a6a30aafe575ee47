"""A web server for tests, on this machine: it behaves, or misbehaves, as it is told.

    with WebServer() as web:
        url = web.serve("/model.pt", CONTENT, drop_after=100)     # the first time only
        web.requests[-1].headers["Range"]

Each `serve` adds one behavior to a path; they are used up one a request, and the last one stays.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(kw_only=True)
class Behavior:
    content: bytes
    status: int = 200
    ranges: bool = True
    """Honors Range."""
    drop_after: int | None = None
    """Closes the connection after so many bytes of the body."""
    lie: int = 0
    """Adds this to Content-Length."""
    shift: int = 0
    """Starts a range so many bytes off."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]


class WebServer:
    def __init__(self) -> None:
        self.behaviors: dict[str, list[Behavior]] = defaultdict(list)
        self.requests: list[Request] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web._answer(self)

            def log_message(self, *_: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, path: str, content: bytes, **behavior: Any) -> str:
        self.behaviors[path].append(Behavior(content=content, **behavior))
        return self.address + path

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(Request(handler.path, dict(handler.headers)))
        planned = self.behaviors.get(handler.path)
        if not planned:
            handler.send_error(404)
            return
        behavior = planned.pop(0) if len(planned) > 1 else planned[0]
        if behavior.status != 200:
            handler.send_response(behavior.status)
            for name, value in behavior.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        self._send(handler, behavior)

    def _send(self, handler: BaseHTTPRequestHandler, behavior: Behavior) -> None:
        whole, start = behavior.content, 0
        etag, wanted = behavior.headers.get("ETag"), handler.headers.get("If-Range")
        if behavior.ranges and (wanted is None or wanted == etag):
            start = int(handler.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        if start >= len(whole):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(whole)}")
            handler.end_headers()
            return
        body = whole[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) + behavior.lie))
        if start:
            first = start + behavior.shift
            handler.send_header("Content-Range", f"bytes {first}-{len(whole) - 1}/{len(whole)}")
        for name, value in behavior.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: behavior.drop_after])
        if behavior.drop_after is not None or behavior.lie:
            handler.close_connection = True
