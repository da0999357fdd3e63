"""A request as its bytes came in, and what it is answered with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Received:
    """A request. `raw` is all of it, to the last byte."""

    raw: bytes
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a header, by its name in lower case."""
        return [value for known, value in self.headers if known == name]

    def header(self, name: str) -> str:
        """Its first value; empty if there is none."""
        return next(iter(self.all(name)), "")

    @property
    def path(self) -> list[str]:
        """The segments of the path."""
        return [unquote(part) for part in self.target.partition("?")[0].strip("/").split("/")]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters, in their order."""
        text = self.target.partition("?")[2]
        pairs = [pair.partition("=") for pair in text.split("&") if pair]
        return [(unquote(name), unquote(value)) for name, _, value in pairs]

    def json(self) -> Any:
        """The body, or None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @staticmethod
    def parse(raw: bytes) -> "Received":
        """From the bytes of one whole request."""
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, _, rest = first.partition(b" ")
        target = rest.rpartition(b" ")[0]
        headers = []
        for line in lines:
            name, _, value = line.partition(b":")
            headers.append((_text(name).strip().lower(), _text(value).strip()))
        return Received(raw, _text(method), _text(target), tuple(headers), body)


def _text(octets: bytes) -> str:
    """Headers are UTF-8, and whatever isn't is itself."""
    return octets.decode("utf-8", "surrogateescape")


@dataclass
class Answer:
    """What goes back."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
