"""What listens: HTTP, with every request kept to its last byte, each connection in a thread of its own."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Callable

from .wire import Answer, Received

Handler = Callable[[Received], "Answer | None"]


class Recorder:
    """A stream whose bytes are kept as they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.octets = bytearray()

    def readline(self, size: int = -1) -> bytes:
        """As of any stream."""
        return self._keep(self.stream.readline(size))

    def read(self, size: int = -1) -> bytes:
        """As of any stream."""
        return self._keep(self.stream.read(size))

    def close(self) -> None:
        """As of any stream."""
        self.stream.close()

    def _keep(self, octets: bytes) -> bytes:
        self.octets += octets
        return octets


def serve(address: tuple[str, int], handler: Handler) -> ThreadingHTTPServer:
    """A server that listens, and serves once its `serve_forever` is called."""

    class Connection(BaseHTTPRequestHandler):
        """Answers what comes over one connection."""

        protocol_version = "HTTP/1.1"
        timeout = 120

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.recorder = Recorder(self.rfile)  # type: ignore[arg-type]
            self.rfile = self.recorder  # type: ignore[assignment]

        def handle_one_request(self) -> None:
            self.recorder.octets.clear()
            super().handle_one_request()

        def answer(self) -> None:
            """Answers any method."""
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            answer = handler(Received.parse(bytes(self.recorder.octets)))
            if answer is None:
                self.close_connection = True
                return
            body = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response_only(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def __getattr__(self, name: str) -> Any:
            """Whatever the method is called, a changed byte of it included, it is answered by the handler."""
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the log of calls is elsewhere."""

    class Listener(ThreadingHTTPServer):
        """Takes many connections at once."""

        daemon_threads = True
        request_queue_size = 128

    return Listener(address, Connection)
