"""This machine: its Ethernet links and their addresses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Any, Iterable

from .commands import Commands, records
from .failure import Failure


@dataclass(frozen=True)
class Port:
    """An interface of this machine; its id is its first address."""

    mac: str
    blocks: tuple[IPv4Interface, ...]

    @property
    def id(self) -> str:
        return str(self.blocks[0].ip)


def own_ports(commands: Commands) -> list[Port]:
    """Ethernet links with an address, those of the router's network first."""
    cidrs = commands.settings.network_cidrs
    ports = []
    for link in records(commands.here("-json", "addr", "show")):
        blocks = addresses(link)
        if blocks and link.get("link_type") == "ether":
            blocks.sort(key=lambda block: not inside(block.network, cidrs))
            ports.append(Port(link["address"], tuple(blocks)))
    ports.sort(key=lambda port: not inside(port.blocks[0].network, cidrs))
    return ports


def addresses(link: dict[str, Any]) -> list[IPv4Interface]:
    return [
        IPv4Interface(f"{address['local']}/{address['prefixlen']}")
        for address in link.get("addr_info", [])
        if address.get("family") == "inet"
    ]


def inside(network: IPv4Network, cidrs: Iterable[IPv4Network]) -> bool:
    return any(network.subnet_of(cidr) for cidr in cidrs)



def machine_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise Failure("invalid", f"/etc/machine-id: {error.strerror}", "set plugin.settings.instance_id") from error
