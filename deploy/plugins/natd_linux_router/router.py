"""The router, seen in one request: its routes read and written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from .commands import Commands, records
from .failure import Failure
from .machine import Port, inside
from .routes import Route, checked, metric_of, preferred, written
from .settings import MAIN_TABLE, Settings, table_number


ABSENT = ("No such process", "FIB table does not exist")


@dataclass
class Router:
    """The router, seen in one request."""

    commands: Commands
    ports: list[Port]

    @property
    def settings(self) -> Settings:
        return self.commands.settings

    def name(self, table: int) -> str:
        for name, number in self.settings.tables.items():
            if number == table:
                return name
        return "main" if table == MAIN_TABLE else str(table)

    def number(self, name: str) -> int:
        number = self.settings.tables.get(name) or table_number(name)
        if number is None:
            raise Failure("not-found", f"{name} is no routing table", "write a number, main, or a name of plugin.settings.tables")
        if self.name(number) != name:
            raise Failure("not-found", f"plugin.settings.tables calls it {self.name(number)}", "use that name")
        return number

    def read(self) -> tuple[list[Route], list[dict[str, Any]], list[dict[str, Any]]]:
        """All routes, rules and links, asked for at once."""
        asked = [("route", "show", "table", "all"), ("rule", "show"), ("addr", "show")]
        with ThreadPoolExecutor(len(asked)) as pool:
            routes, rules, links = pool.map(lambda what: records(self.commands.there("-N", "-json", "-4", *what)), asked)
        return [Route(route) for route in routes], rules, links

    def here(self, address: str | None) -> Port | None:
        """The port of this machine that has the address."""
        for port in self.ports:
            if address in (str(block.ip) for block in port.blocks):
                return port
        return None

    def next_hop(self, route: Route, outward: set[str]) -> dict[str, str]:
        if route.is_kernels:
            return {"type": "local"}
        port = self.here(route.told.get("gateway"))
        if port:
            return {"type": "interface", "id": port.id}
        if route.unreadable:
            return {"type": "unreadable", "id": " ".join(sorted(route.unreadable))}
        leads_out = route.destination == "0.0.0.0/0" and route.type == 1 and self.leaves(route, outward)
        return {"type": "internet-gateway" if leads_out else "route", "id": " ".join(route.words())}

    def leaves(self, route: Route, outward: set[str]) -> bool:
        """Whether the route leads out of the network, which the settings describe."""
        hops = route.told.get("nexthops") or [route.told]
        for hop in hops:
            if "gateway" in hop and inside(IPv4Network(hop["gateway"]), self.settings.network_cidrs):
                return False
        return all("gateway" in hop or "via" in hop or hop.get("dev") in outward for hop in hops)

    def put(self, table: int, destination: str, hop: dict[str, Any]) -> None:
        present = self.at(table, destination)
        current = preferred(present).get(destination)
        if hop["type"] == "interface":
            port = next((port for port in self.ports if port.id == hop["id"]), None)
            if port is None:
                raise Failure("not-found", f"{hop['id']} is no interface of this machine")
            if current and self.here(current.told.get("gateway")) == port and not current.is_learnt:
                return
            listed = self.own(port, current)
        elif hop["type"] in ("route", "internet-gateway"):
            listed = checked(hop.get("id", ""))
        else:
            raise Failure("unsupported", f"a route to {hop['type']} can't be written")
        metric = metric_of(listed)
        if not (current and current.words() == listed):
            self.commands.there("route", "replace", *written(table, destination, listed))
        for route in present:
            # One that was put beside a learnt route isn't replaced by what it gives way to.
            if route.protocol == self.settings.protocol and route.metric != metric:
                self.delete(table, route)

    def own(self, port: Port, current: Route | None) -> list[str]:
        """The words of natd's own route, so that it takes the place of the current one."""
        listed = ["via", port.id, "proto", str(self.settings.protocol)]
        if current is None:
            return listed
        if current.is_kernels or current.is_learnt:
            if current.metric == 0:
                raise Failure(
                    "conflict",
                    f"the route {current.destination} was learnt (proto {current.protocol}), and nothing outranks its metric 0",
                    "give it a metric greater than 0 where it is learnt",
                )
            return [*listed, "metric", str(current.metric - 1)]
        if current.unreadable:
            raise Failure(
                "conflict",
                f"the route {current.destination} has what could not be given back: {' '.join(sorted(current.unreadable))}",
                "remove that route, or make it a simpler one",
            )
        return [*listed, "metric", str(current.metric)] if current.metric else listed

    def remove(self, table: int, destination: str) -> None:
        present = self.at(table, destination)
        doomed = [route for route in present if route.protocol == self.settings.protocol]
        current = preferred(present).get(destination)
        if not doomed and current and not current.is_kernels and not current.is_learnt:
            doomed = [current]
        for route in doomed:
            self.delete(table, route)

    def delete(self, table: int, route: Route) -> None:
        self.unless_absent("route", "del", *written(table, route.destination, route.words()))

    def at(self, table: int, destination: str) -> list[Route]:
        output = self.unless_absent("-N", "-json", "-4", "route", "show", "exact", destination, "table", str(table))
        return [Route(route) for route in records(output) if "tos" not in route]

    def unless_absent(self, *arguments: str) -> str:
        """A table that has no route is not there for the kernel, and what is gone needs no deleting."""
        try:
            return self.commands.there(*arguments)
        except Failure as failure:
            if any(words in failure.data["cause"] for words in ABSENT):
                return ""
            raise
