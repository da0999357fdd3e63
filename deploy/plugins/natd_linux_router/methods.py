"""The methods that natd calls."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import Any, Callable

from .commands import Commands
from .failure import Failure
from .machine import addresses, inside, machine_id, own_ports
from .router import Router
from .routes import preferred
from .settings import Settings
from .subnets import attached, link_to, serving


def instance(settings: Settings) -> dict[str, Any]:
    own = [port.blocks[0].network for port in own_ports(Commands.until_timeout(settings))]
    return {
        "id": settings.instance_id or machine_id(),
        "region": settings.region,
        "zone": settings.zone,
        "network": settings.network,
        "network_cidrs": [str(cidr) for cidr in settings.network_cidrs],
        "subnets": sorted(str(subnet) for subnet in own if inside(subnet, settings.network_cidrs)),
    }


def interfaces(settings: Settings) -> dict[str, Any]:
    def address(block: IPv4Interface) -> dict[str, Any]:
        known = settings.public_addresses
        # Who was told none doesn't know; who was told some knows that the others have none.
        return {"private": str(block.ip)} | ({"public": known.get(block.ip)} if known else {})

    ports = [
        {
            "id": port.id,
            "mac": port.mac,
            "addresses": [address(block) for block in port.blocks],
            "subnet": str(port.blocks[0].network),
            "source_dest_check": False,
        }
        for port in own_ports(Commands.until_timeout(settings))
    ]
    return {"interfaces": ports}


def route_tables(settings: Settings, ids: list[str], tags: list[Any], subnets: list[str]) -> dict[str, Any]:
    commands = Commands.until_timeout(settings)
    router = Router(commands, own_ports(commands))
    routes, rules, links = router.read()
    wanted: set[int] = set()
    missing = []
    served = attached(settings, rules, links)
    for subnet in subnets:
        if subnet not in served:
            try:
                block = IPv4Network(subnet)
                if not inside(block, settings.network_cidrs):
                    raise ValueError("it is not within plugin.settings.network_cidrs")
                served[subnet] = serving(rules, block, link_to(links, block))
            except ValueError as error:
                missing.append({"id": subnet, "error": {"kind": "not-found", "cause": str(error)}})
                continue
        wanted.add(served[subnet])
    for name in ids:
        try:
            wanted.add(router.number(name))
        except Failure as failure:
            missing.append({"id": name, "error": failure.data})
    inward = {link["ifname"] for link in links if any(inside(block.network, settings.network_cidrs) for block in addresses(link))}
    outward = {link["ifname"] for link in links} - inward
    found = []
    for table in sorted(wanted):
        best = preferred(route for route in routes if route.table == table)
        found.append(
            {
                "id": router.name(table),
                "subnets": sorted(subnet for subnet, serves in served.items() if serves == table),
                "routes": [
                    {
                        "destination": destination,
                        "next_hop": router.next_hop(route, outward),
                        "state": "blackhole" if route.is_dead else "active",
                        "origin": "propagated" if route.is_kernels or route.is_learnt else "static",
                    }
                    for destination, route in best.items()
                ],
            }
        )
    return {"found": found, "missing": missing}


def set_source_dest_check(_: Settings, interface: str, enabled: bool, earlier: Any = None) -> dict[str, Any]:
    raise Failure("unsupported", "a Linux router has no source/destination check")


def source_dest_check(_: Settings, interface: str) -> dict[str, Any]:
    return {"enabled": False}


def put(settings: Settings, table: str, destination: str, next_hop: dict[str, Any]) -> dict[str, Any]:
    router, number, block = target(settings, table, destination)
    router.put(number, block, next_hop)
    return {}


def remove(settings: Settings, table: str, destination: str) -> dict[str, Any]:
    router, number, block = target(settings, table, destination)
    router.remove(number, block)
    return {}


def target(settings: Settings, table: str, destination: str) -> tuple[Router, int, str]:
    if ":" in destination:
        raise Failure("unsupported", "this plugin serves IPv4 alone")
    commands = Commands.until_timeout(settings)
    router = Router(commands, own_ports(commands))
    return router, router.number(table), str(IPv4Network(destination))


METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (instance, interfaces, route_tables, set_source_dest_check, source_dest_check, put, remove)
}
