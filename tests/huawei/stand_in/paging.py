"""Lists a page at a time: `limit` elements behind the one whose id is `marker`, in the order of ids."""

from __future__ import annotations

from typing import Any, Iterable

from .errors import invalid

LONGEST = 2000


def page(items: Iterable[dict[str, Any]], query: list[tuple[str, str]], longest: int) -> list[dict[str, Any]]:
    """The page that a query asks for. The cloud gives no more than `longest` at once, whatever is asked."""
    given = dict(query)
    text = given.get("limit", str(LONGEST))
    if not text.isdecimal() or not 0 <= int(text) <= LONGEST:
        raise invalid(f"limit {text} is not in [0, {LONGEST}]")
    marker = given.get("marker", "")
    behind = sorted((item for item in items if item["id"] > marker), key=lambda item: item["id"])
    return behind[: min(int(text), longest)]


def matching(
    items: Iterable[dict[str, Any]], query: list[tuple[str, str]], fields: Iterable[str]
) -> list[dict[str, Any]]:
    """Those whose `fields` are as the query says. A field that is given several times may be any of these."""
    wanted: dict[str, set[str]] = {}
    for name, value in query:
        if name in fields:
            wanted.setdefault(name, set()).add(value)
    return [item for item in items if all(item.get(name) in values for name, values in wanted.items())]
