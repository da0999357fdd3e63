"""Runs `ip`, on this machine or on the router, and tells what a failure means."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .failure import Failure
from .settings import Settings


@dataclass
class Commands:
    """Runs `ip`, on this machine or on the router, within the time that one request has."""

    settings: Settings
    deadline: float

    @classmethod
    def until_timeout(cls, settings: Settings) -> Commands:
        return cls(settings, time.monotonic() + settings.timeout)

    def here(self, *arguments: str) -> str:
        return self._run(["ip", *arguments], "ip")

    def there(self, *arguments: str) -> str:
        settings = self.settings
        command = [*settings.ip, *arguments]
        if settings.needs_quotes:
            command = [shlex.join(command)]
        return self._run([*settings.way, *command], shlex.join([*settings.way, *settings.ip]))

    def _run(self, command: list[str], shown: str) -> str:
        """Tries again what may pass: connections come and go, and every command may be repeated."""
        wait, earlier = 0.1, None
        while True:
            try:
                return self._once(command, shown)
            except Failure as failure:
                wait *= random.uniform(1.5, 2.5)
                if failure.data["kind"] not in ("unreachable", "throttled"):
                    raise
                if self.deadline - time.monotonic() < wait:
                    # The last attempt may have been cut short; the first says more.
                    raise (earlier or failure) from None
                earlier = earlier or failure
            time.sleep(wait)

    def _once(self, command: list[str], shown: str) -> str:
        left = self.deadline - time.monotonic()
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=max(left, 0.1)
            )
        except subprocess.TimeoutExpired:
            raise Failure("unreachable", f"{shown} was not done in time", "see whether the router answers") from None
        except OSError as error:
            raise Failure("invalid", f"{command[0]} can't be run: {error.strerror}", "install it, or correct plugin.settings") from error
        if done.returncode == 0:
            return done.stdout
        raise explained(shown, done.returncode, " / ".join(done.stderr.split("\n")).strip(" /"))


def explained(shown: str, code: int, said: str) -> Failure:
    """What a failed command means. 255 is ssh's own: it got no command through."""
    cause = f"{shown} failed ({code}): {said or 'without a word'}"
    known = [
        ("Permission denied (", "denied", "let this machine's root log in there with its key"),
        ("Host key verification failed", "denied", "log in there once by hand, and see whether the key is the right one"),
        ("kex_exchange_identification", "throttled", "raise MaxStartups of the router's sshd"),
        ("Operation not permitted", "denied", "on the router, ip needs root or CAP_NET_ADMIN"),
        ("a password is required", "denied", "let sudo run ip there without a password"),
        ("Nexthop has invalid gateway", "not-found", "the router needs a link to that address"),
        ("Network is unreachable", "not-found", "the router needs a link to that address"),
        ("Cannot find device", "not-found", "the router's link is gone"),
        ("nexthop does not exist", "not-found", "the router's nexthop object is gone"),
        ("File exists", "conflict", "see who else changes this route"),
    ]
    for words, kind, advice in known:
        if words in said:
            return Failure(kind, cause, advice)
    if code == 127:
        return Failure("unsupported", cause, "install iproute2 there, or name ip's path in plugin.settings.ip")
    if code == 255:
        return Failure("unreachable", cause, "see whether the router answers")
    return Failure("invalid", cause)


def records(output: str) -> list[dict[str, Any]]:
    try:
        return [record for record in json.loads(output or "[]") if record]
    except ValueError as error:
        raise Failure("invalid", f"ip printed no JSON: {output[:100]!r}", "iproute2 4.20 or later is needed") from error
