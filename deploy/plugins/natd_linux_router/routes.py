"""A route of the router, and the words of `ip route` that write it again."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Iterable

from .failure import Failure
from .settings import LEARNT, MAIN_TABLE


# Route types that are words in front of the destination, by their numbers (linux/rtnetlink.h).
TYPES = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
KERNEL_TYPES = {2, 3, 4, 5}
KERNEL, BOOT = 2, 3
# What the kernel tells of a route and nobody writes.
STATE_FLAGS = {"linkdown", "dead", "offload", "rt_offload", "trap", "rt_trap", "pervasive"}
READABLE = {
    "type", "dst", "gateway", "via", "dev", "table", "protocol", "metric", "scope", "prefsrc",
    "flags", "nexthops", "nhid", "flow", "metrics", "tos",
}  # fmt: skip


@dataclass(frozen=True)
class Route:
    """A route of the router, as `ip -N -json` tells it."""

    told: dict[str, Any]

    @property
    def destination(self) -> str:
        told = self.told["dst"]
        return str(IPv4Network("0.0.0.0/0" if told == "default" else told, strict=False))

    @property
    def table(self) -> int:
        return int(self.told.get("table", MAIN_TABLE))

    @property
    def metric(self) -> int:
        return int(self.told.get("metric", 0))

    @property
    def protocol(self) -> int:
        return int(self.told.get("protocol", BOOT))

    @property
    def type(self) -> int:
        return int(self.told.get("type", 1))

    @property
    def is_kernels(self) -> bool:
        return self.protocol == KERNEL or self.type in KERNEL_TYPES

    @property
    def is_learnt(self) -> bool:
        return self.protocol in LEARNT

    @property
    def is_dead(self) -> bool:
        hops = self.told.get("nexthops") or [self.told]
        return self.type in (6, 7, 8) or all({"dead", "linkdown"} & set(hop.get("flags", [])) for hop in hops)

    @property
    def unreadable(self) -> set[str]:
        """What it has that this plugin couldn't write again."""
        flags = set(self.told.get("flags", [])) - STATE_FLAGS - {"onlink"}
        metrics = self.told.get("metrics", [])
        odd = [metric for metric in metrics[0].values() if not isinstance(metric, int)] if metrics else []
        return (set(self.told) - READABLE) | flags | {str(value) for value in odd}

    def words(self) -> list[str]:
        """What stands behind the destination in `ip route`; a type comes first."""
        told = self.told
        listed = [TYPES[self.type]] if self.type in TYPES else []
        if "nhid" in told:
            listed += ["nhid", str(told["nhid"])]
        else:
            listed += hop_words(told)
        for key, word in (("protocol", "proto"), ("scope", "scope"), ("prefsrc", "src"), ("metric", "metric")):
            if key in told:
                listed += [word, str(told[key])]
        if "flow" in told:
            listed += ["realm", "/".join(told["flow"][key] for key in ("from", "to") if key in told["flow"])]
        for name, value in (told.get("metrics") or [{}])[0].items():
            listed += [name, str(value)]
        for hop in [] if "nhid" in told else told.get("nexthops", []):
            listed += ["nexthop", *hop_words(hop), "weight", str(hop.get("weight", 1))]
        return listed


def hop_words(hop: dict[str, Any]) -> list[str]:
    listed = []
    if "gateway" in hop:
        listed += ["via", hop["gateway"]]
    if "via" in hop:
        listed += ["via", hop["via"]["family"], hop["via"]["host"]]
    if "dev" in hop:
        listed += ["dev", hop["dev"]]
    if "onlink" in hop.get("flags", []):
        listed.append("onlink")
    return listed


def preferred(routes: Iterable[Route]) -> dict[str, Route]:
    """For each destination the route that is taken: the least metric. natd knows one of each."""
    best: dict[str, Route] = {}
    for route in routes:
        if "tos" in route.told:
            continue
        known = best.get(route.destination)
        if known is None or route.metric < known.metric:
            best[route.destination] = route
    return best


def written(table: int, destination: str, listed: list[str]) -> list[str]:
    """The arguments of `ip route VERB`. The table goes before next hops: after them it is one's own."""
    kind = listed[:1] if listed[:1] and listed[0] in TYPES.values() else []
    return [*kind, destination, "table", str(table), *listed[len(kind) :]]


def metric_of(listed: list[str]) -> int:
    return int(listed[listed.index("metric") + 1]) if "metric" in listed else 0


def checked(given: str) -> list[str]:
    """The words of a next hop that natd hands back: nothing but a next hop may be in them."""
    listed = given.split()
    for word in listed:
        if word.startswith("-") or word in ("table", "to", "root", "match", "exact", "tos", "dsfield") or not word.isascii():
            raise Failure("invalid", f"{given!r} is no next hop")
    if not listed:
        raise Failure("invalid", "a next hop without an id")
    return listed
