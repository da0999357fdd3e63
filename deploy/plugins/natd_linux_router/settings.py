"""`[plugin.settings]`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Iterator

from .failure import Failure


LOCAL_TABLE, MAIN_TABLE = 255, 254
# Who learns routes and would learn them again: redirects, gated to babel, then the daemons of
# FRR and openr (linux/rtnetlink.h, RTPROT_*).
LEARNT = {1, *range(8, 19), 42, 84, 99, 186, 187, 188, 189, 192}
# natd's own routes carry this number, so that they can be told from all others.
OWN_PROTOCOL = 110


@dataclass(frozen=True)
class Settings:
    """`[plugin.settings]`, checked."""

    network_cidrs: tuple[IPv4Network, ...]
    network: str = "linux-router"
    instance_id: str | None = None
    region: str = ""
    zone: str = ""
    way: tuple[str, ...] = ()
    needs_quotes: bool = False
    ip: tuple[str, ...] = ("ip",)
    tables: dict[str, int] = field(default_factory=dict)
    subnets: dict[str, int] = field(default_factory=dict)
    public_addresses: dict[IPv4Address, str] = field(default_factory=dict)
    protocol: int = OWN_PROTOCOL
    timeout: float = 8.0

    @classmethod
    def read(cls, given: dict[str, Any]) -> Settings:
        rest = dict(given)
        try:
            settings = cls(**dict(cls._checked(rest)))
        except (TypeError, ValueError, AttributeError) as error:
            raise Failure("invalid", f"plugin.settings: {error}", "see docs/linux-router.md") from error
        if rest:
            unknown = ", ".join(sorted(rest))
            raise Failure("invalid", f"plugin.settings has unknown keys: {unknown}", "see docs/linux-router.md")
        return settings

    @staticmethod
    def _checked(rest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        cidrs = rest.pop("network_cidrs", None)
        if not isinstance(cidrs, list) or not cidrs:
            raise ValueError("network_cidrs, the router's networks as CIDRs, is missing")
        yield "network_cidrs", tuple(IPv4Network(cidr) for cidr in cidrs)
        for key in ("network", "instance_id", "region", "zone"):
            if key in rest:
                yield key, text(key, rest.pop(key))
        ways = [key for key in ("ssh", "shell", "via") if key in rest]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} exclude each other")
        for key in ways:
            way = words(key, rest.pop(key))
            if key == "ssh":
                if way[-1].startswith("-"):
                    raise ValueError("ssh has to end with the router's name")
                way = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", *way)
            yield "way", way
            yield "needs_quotes", key != "via"
        if "ip" in rest:
            yield "ip", words("ip", rest.pop("ip"))
        tables: dict[str, int] = {}
        subnets: dict[str, int] = {}
        for name, table in rest.pop("tables", {}).items():
            if name == "main" or name.isdecimal():
                raise ValueError(f"tables.{name}: numbers and main have their own meaning")
            number = table_number(str(table["table"]))
            if number is None or number in tables.values():
                raise ValueError(f"tables.{name}.table is no number of its own")
            tables[name] = number
            subnets |= {str(IPv4Network(subnet)): number for subnet in table.get("subnets", [])}
        yield "tables", tables
        yield "subnets", subnets
        public = rest.pop("public_addresses", {})
        yield "public_addresses", {IPv4Address(own): str(IPv4Address(seen)) for own, seen in public.items()}
        if "protocol" in rest:
            protocol = int(rest.pop("protocol"))
            if not 19 <= protocol <= 255 or protocol in LEARNT:
                raise ValueError("protocol is a number from 19 to 255 that no routing daemon has")
            yield "protocol", protocol
        if "timeout" in rest:
            yield "timeout", float(rest.pop("timeout"))


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is a text")
    return value


def words(key: str, value: Any) -> tuple[str, ...]:
    """A command as a list of words; one word may stand alone."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{key} is a list of words")
    return tuple(text(key, word) for word in listed)


def table_number(name: str) -> int | None:
    if name == "main":
        return MAIN_TABLE
    if name.isdecimal() and 0 < int(name) < 1 << 32 and int(name) != LOCAL_TABLE:
        return int(name)
    return None
