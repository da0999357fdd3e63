"""Public addresses (EIPs), which are bound to ports. They live on the VPC's host."""

from __future__ import annotations

from typing import Any

from .errors import Refusal, invalid
from .paging import matching, page
from .state import State
from .wire import Answer, Received


def answer(state: State, received: Received, id_: str | None) -> Answer:
    """Answers a request about the list, or about the public address of that id."""
    eips = state.of("publicips")
    if id_ is None:
        found = matching(eips.values(), received.query, ("id", "port_id", "public_ip_address"))
        rows = page(found, received.query, state.settings["longest_page"])
        return Answer(200, {"publicips": [_shown(state, eip) for eip in rows]})
    eip = eips.get(id_)
    if eip is None:
        raise Refusal(404, "VPC.0504", f"Floating IP {id_} could not be found.")
    if received.method == "PUT":
        _bind(state, eip, received.json())
    return Answer(200, {"publicip": _shown(state, eip)})


def _bind(state: State, eip: dict[str, Any], body: Any) -> None:
    """Binds it to a port, or to none."""
    change = body.get("publicip") if isinstance(body, dict) else None
    if not isinstance(change, dict) or set(change) != {"port_id"}:
        raise invalid("publicip is invalid", "VPC.0501")
    port = change["port_id"] or ""
    if port:
        if port not in state.of("ports"):
            raise Refusal(404, "PortNotFound", f"Port {port} could not be found.", "neutron")
        if eip["port_id"]:
            raise Refusal(409, "VPC.0510", "Floatingip has already associated with port.")
        if any(other["port_id"] == port for other in state.of("publicips").values()):
            raise Refusal(409, "VPC.0511", "Port has already associated with floatingip.")
    eip["port_id"] = port


def _shown(state: State, eip: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "id": eip["id"],
        "status": "ACTIVE" if eip["port_id"] else "DOWN",
        "type": "5_bgp",
        "public_ip_address": eip["public_ip_address"],
        "tenant_id": state.settings["project_id"],
        "create_time": eip["create_time"],
        "bandwidth_size": 5,
    }
    port = state.of("ports").get(eip["port_id"])
    if port is not None:
        shown["port_id"] = port["id"]
        shown["private_ip_address"] = port["fixed_ips"][0]["ip_address"]
    return shown
