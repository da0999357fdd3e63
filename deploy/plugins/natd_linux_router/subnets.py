"""Which table decides over the packets of a subnet: the router's own rules tell."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from .machine import addresses, inside
from .settings import LOCAL_TABLE, MAIN_TABLE, Settings


def serving(rules: list[dict[str, Any]], subnet: IPv4Network, link: str | None) -> int:
    """The table that is asked first for the way of packets from a subnet that come in by a link.

    Rules that look at more than source and link are not for all packets, and those that suppress
    short prefixes never give the default route.
    """
    for rule in rules:
        table = int(rule.get("table", 0))
        if table in (0, LOCAL_TABLE) or set(rule) - {"priority", "src", "srclen", "iif", "table", "protocol"}:
            continue
        source = "0.0.0.0/0" if rule["src"] == "all" else f"{rule['src']}/{rule.get('srclen', 32)}"
        if subnet.subnet_of(IPv4Network(source)) and rule.get("iif", link) == link:
            return table
    return MAIN_TABLE


def attached(settings: Settings, rules: list[dict[str, Any]], links: list[dict[str, Any]]) -> dict[str, int]:
    """The tables of the router's own subnets, which are known by their blocks and their links' names."""
    served: dict[str, int] = {}
    for link in links:
        for block in addresses(link):
            if inside(block.network, settings.network_cidrs):
                subnet = str(block.network)
                table = settings.subnets.get(subnet) or serving(rules, block.network, link["ifname"])
                served |= {subnet: table, link["ifname"]: table}
    return served | settings.subnets


def link_to(links: list[dict[str, Any]], subnet: IPv4Network) -> str | None:
    for link in links:
        if any(subnet.subnet_of(block.network) for block in addresses(link)):
            return link["ifname"]
    return None
