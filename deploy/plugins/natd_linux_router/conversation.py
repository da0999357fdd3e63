"""natd's requests and their answers, a line each (docs/plugin-protocol.md)."""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .failure import Failure
from .methods import METHODS
from .settings import Settings


PROTOCOL = 1
VERSION = "1"




class Conversation:
    """natd's requests, answered side by side."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.mouth = threading.Lock()

    def say(self, answer: dict[str, Any]) -> None:
        with self.mouth:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def answer(self, request: dict[str, Any]) -> None:
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = self.call(request["method"], request["params"])
        except Failure as failure:
            answer["error"] = {"code": -32000, "message": str(failure), "data": failure.data}
        except Exception as error:  # natd shows it, and the program lives on
            cause = f"a mistake in linux-router: {type(error).__name__}: {error}"
            answer["error"] = {"code": -32603, "message": cause, "data": {"kind": "invalid", "cause": cause}}
        self.say(answer)

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            self.settings = Settings.read(params["settings"])
            return {"protocol": PROTOCOL, "name": "linux-router", "version": VERSION, "concurrency": 8}
        if method not in METHODS:
            raise Failure("unsupported", f"linux-router has no method {method}")
        if self.settings is None:
            raise Failure("invalid", "initialize comes first")
        return METHODS[method](self.settings, **params)


def main() -> None:
    conversation = Conversation()
    with ThreadPoolExecutor(8) as pool:
        for line in sys.stdin:
            pool.submit(conversation.answer, json.loads(line))
        # natd has closed the pipe: whatever is under way, nobody waits for it any more.
        sys.stdout.flush()
        os._exit(0)
