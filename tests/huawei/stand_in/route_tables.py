"""Route tables: lists without routes, and `add`, `mod` and `del`, all of a request or nothing."""

from __future__ import annotations

import ipaddress
from typing import Any

from .errors import Refusal, invalid
from .paging import matching, page
from .state import State
from .wire import Answer, Received

MOST_ROUTES = 200
MOST_IN_A_REQUEST = 5

# Where the next hop of each type must be found.
_NEXT_HOPS = {
    "ecs": "servers",
    "eni": "ports",
    "nat": "targets",
    "peering": "targets",
    "vpn": "targets",
    "dc": "targets",
    "cc": "targets",
    "er": "targets",
}


def answer(state: State, received: Received, id_: str | None) -> Answer:
    """Answers a request about the list, or about the table of that id."""
    tables = state.of("routetables")
    if id_ is None:
        found = matching(tables.values(), received.query, ("id", "vpc_id"))
        subnets = {value for name, value in received.query if name == "subnet_id"}
        if subnets:
            found = [table for table in found if subnets & set(table["subnets"])]
        rows = page(found, received.query, state.settings["longest_page"])
        return Answer(200, {"routetables": [_shown(state, row, routes=False) for row in rows]})
    table = tables.get(id_)
    if table is None:
        raise Refusal(404, "VPC.2204", f"Route table {id_} could not be found.")
    if received.method == "PUT":
        _update(state, table, received.json())
    return Answer(200, {"routetable": _shown(state, table, routes=True)})


def _shown(state: State, table: dict[str, Any], routes: bool) -> dict[str, Any]:
    """A table as the API tells it: with the system's own routes, one a subnet, which nobody can change."""
    shown = {
        "id": table["id"],
        "name": table["name"],
        "default": table["default"],
        "vpc_id": table["vpc_id"],
        "tenant_id": state.settings["project_id"],
        "description": table.get("description", ""),
        "subnets": [{"id": subnet} for subnet in table["subnets"]],
        "created_at": table["created_at"],
        "updated_at": table["updated_at"],
    }
    if not state.settings["default_in_tables"]:
        del shown["default"]
    if routes:
        shown["routes"] = local_routes(state, table) + list(table["routes"])
    return shown


def local_routes(state: State, table: dict[str, Any]) -> list[dict[str, str]]:
    """The routes within the network."""
    subnets = [subnet for subnet in state.of("subnets").values() if subnet["vpc_id"] == table["vpc_id"]]
    blocks = sorted(subnet["cidr"] for subnet in subnets)
    return [{"type": "local", "destination": block, "nexthop": "-"} for block in blocks]


def _update(state: State, table: dict[str, Any], body: Any) -> None:
    change = body.get("routetable") if isinstance(body, dict) else None
    if not isinstance(change, dict) or set(change) - {"name", "description", "routes"}:
        raise invalid("routetable is invalid", "VPC.2800")
    asked = change.get("routes", {})
    if not isinstance(asked, dict) or set(asked) - {"add", "mod", "del"}:
        raise invalid("routes is invalid", "VPC.2800")
    if sum(len(routes) for routes in asked.values()) > MOST_IN_A_REQUEST:
        raise invalid(f"The num of routes to update is more than {MOST_IN_A_REQUEST}.", "VPC.2800")
    local = {route["destination"] for route in local_routes(state, table)}
    routes = {route["destination"]: route for route in table["routes"]}
    for gone in asked.get("del", []):
        if routes.pop(_destination(gone), None) is None:
            raise invalid(f"Route {_destination(gone)} does not exist.", "VPC.2813")
    for route in asked.get("mod", []):
        if _destination(route) not in routes:
            raise invalid(f"Route {_destination(route)} does not exist.", "VPC.2813")
        routes[_destination(route)] = _route(state, table, route)
    for route in asked.get("add", []):
        if _destination(route) in routes or _destination(route) in local:
            raise invalid(f"Route {_destination(route)} already exists.", "VPC.2812")
        routes[_destination(route)] = _route(state, table, route)
    if len(routes) > MOST_ROUTES:
        raise Refusal(409, "VPC.2811", "Quota exceeded for resources: ['routes'].")
    table["routes"] = list(routes.values())
    table["name"] = change.get("name", table["name"])
    table["description"] = change.get("description", table.get("description", ""))
    table["updated_at"] = state.stamp()


def _destination(route: Any) -> str:
    text = route.get("destination") if isinstance(route, dict) else None
    try:
        return str(ipaddress.ip_network(text or ""))
    except ValueError:
        raise invalid(f"destination {text} is invalid", "VPC.2800") from None


def _route(state: State, table: dict[str, Any], route: dict[str, Any]) -> dict[str, str]:
    """A route whose next hop is there."""
    kind, next_hop = route.get("type"), route.get("nexthop")
    if set(route) - {"type", "destination", "nexthop", "description"}:
        raise invalid("a route has a field too many", "VPC.2800")
    if kind == "vip":
        is_there = any(
            port["device_owner"] == "neutron:VIP_PORT" and _in_network(state, port, table)
            for port in state.of("ports").values()
            if next_hop in [fixed["ip_address"] for fixed in port["fixed_ips"]]
        )
    elif kind in _NEXT_HOPS:
        is_there = next_hop in state.of(_NEXT_HOPS[kind])
    else:
        raise invalid(f"route type {kind} is invalid", "VPC.2800")
    if not is_there:
        raise Refusal(404, "VPC.2814", f"The nexthop {next_hop} of type {kind} could not be found.")
    kept = {"type": kind, "destination": _destination(route), "nexthop": next_hop}
    if "description" in route:
        kept["description"] = route["description"]
    return kept


def _in_network(state: State, port: dict[str, Any], table: dict[str, Any]) -> bool:
    return state.of("subnets")[port["network_id"]]["vpc_id"] == table["vpc_id"]
