"""Throttling, faults on demand, and the log of the calls that came in."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .errors import throttled
from .wire import Received


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of an action; `*` is any.

    kind: refuse (with `status`, `code`, `message`, `shape`), drop-before, drop-after, delay, delay-answer (`seconds`).
    """

    action: str
    kind: str
    times: int
    detail: dict[str, Any] = field(default_factory=dict)


class Traffic:
    """What comes by."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.writes: deque[datetime] = deque()

    def log(self, received: Received, name: str, is_write: bool) -> dict[str, Any]:
        """Takes a call in. Its `status` comes later, and stays None where the connection is dropped."""
        call = {
            "method": received.method,
            "path": received.target,
            "action": name,
            "write": is_write,
            "status": None,
            "body": received.body.decode(errors="replace"),
            "raw": b64encode(received.raw).decode(),
        }
        with self.lock:
            self.calls.append(call)
        return call

    def next_fault(self, name: str) -> Fault | None:
        """What is to go wrong with a call."""
        with self.lock:
            for fault in self.faults:
                if fault.action in (name, "*") and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def limit_writes(self, most: int | None, now: datetime) -> None:
        """Refuses a write that would be one too many in a minute. Those before there was a limit don't count."""
        with self.lock:
            if most is None:
                self.writes.clear()
                return
            while self.writes and now - self.writes[0] > timedelta(minutes=1):
                self.writes.popleft()
            if len(self.writes) >= most:
                raise throttled()
            self.writes.append(now)
