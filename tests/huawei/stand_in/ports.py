"""Ports, and the address pairs by which their source/destination check is switched."""

from __future__ import annotations

import ipaddress
import secrets
import uuid
from typing import Any

from .errors import Refusal, invalid
from .paging import matching, page
from .state import State
from .wire import Answer, Received

# No other field of a port may be sent with an update.
_CHANGEABLE = {"name", "security_groups", "allowed_address_pairs", "extra_dhcp_opts"}
_FILTERS = ("id", "name", "network_id", "mac_address", "device_id", "device_owner", "status")


def answer(state: State, received: Received, id_: str | None) -> Answer:
    """Answers a request about the list, or about the port of that id."""
    ports = state.of("ports")
    if id_ is None and received.method == "POST":
        return Answer(201, {"port": _create(state, received.json())})
    if id_ is None:
        found = matching(ports.values(), received.query, _FILTERS)
        return Answer(200, {"ports": page(found, received.query, state.settings["longest_page"])})
    port = ports.get(id_)
    if port is None:
        raise Refusal(404, "PortNotFound", f"Port {id_} could not be found.", "neutron")
    if received.method == "PUT":
        _update(port, received.json())
    return Answer(200, {"port": port})


def _update(port: dict[str, Any], body: Any) -> None:
    change = body.get("port") if isinstance(body, dict) else None
    if not isinstance(change, dict) or set(change) - _CHANGEABLE:
        raise invalid("Param is invalid.", "VPC.2500")
    for pair in change.get("allowed_address_pairs", []):
        _check_pair(pair)
    port.update(change)


def _check_pair(pair: Any) -> None:
    """`1.1.1.1/0` is what switches the check off; the same under its usual name is not allowed."""
    if not isinstance(pair, dict) or set(pair) - {"ip_address", "mac_address"} or "ip_address" not in pair:
        raise invalid("allowed_address_pairs is invalid", "VPC.2500")
    text = pair["ip_address"]
    if text == "1.1.1.1/0":
        return
    try:
        block = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise _bad_pair(text) from None
    if block.prefixlen == 0:
        raise _bad_pair(text)


def _bad_pair(text: str) -> Refusal:
    message = f"Invalid input for allowed_address_pairs. Reason: '{text}' is not allowed."
    return Refusal(400, "HTTPBadRequest", message, "escaped")


def _create(state: State, body: Any) -> dict[str, Any]:
    """A virtual address: the only sort of port that can be made without a server."""
    wanted = body.get("port") if isinstance(body, dict) else None
    if not isinstance(wanted, dict) or wanted.get("device_owner") != "neutron:VIP_PORT":
        raise invalid("device_owner is invalid", "VPC.2500")
    subnet = state.of("subnets").get(wanted.get("network_id", ""))
    if subnet is None:
        raise Refusal(404, "VPC.0704", "The network could not be found.")
    taken = {fixed["ip_address"] for port in state.of("ports").values() for fixed in port["fixed_ips"]}
    block = ipaddress.ip_network(subnet["cidr"])
    free = (str(host) for host in block.hosts() if str(host) not in taken and str(host) != subnet["gateway_ip"])
    asked = [fixed["ip_address"] for fixed in wanted.get("fixed_ips", [])]
    address = asked[0] if asked else next(free)
    if address in taken:
        raise Refusal(409, "IpAddressInUse", f"IP address {address} is in use.", "neutron")
    port = new(state, subnet, address, "", "neutron:VIP_PORT", wanted.get("name", ""))
    state.of("ports")[port["id"]] = port
    return port


def new(
    state: State, subnet: dict[str, Any], address: str, device: str, owner: str, name: str = ""
) -> dict[str, Any]:
    """A port, in all the fields that a port has."""
    octets = secrets.token_bytes(3)
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "network_id": subnet["id"],
        "admin_state_up": True,
        "mac_address": "fa:16:3e:" + ":".join(f"{octet:02x}" for octet in octets),
        "fixed_ips": [{"ip_address": address, "subnet_id": subnet["neutron_subnet_id"]}],
        "device_id": device,
        "device_owner": owner,
        "tenant_id": state.settings["project_id"],
        "status": "ACTIVE" if device else "DOWN",
        "security_groups": [],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "binding:vnic_type": "normal",
        "binding:vif_details": {"primary_interface": True} if device else {},
        "binding:profile": {},
        "dns_assignment": [],
        "dns_name": "",
        "instance_id": device,
        "instance_type": "",
        "port_security_enabled": True,
        "zone_id": f"{state.settings['region']}a",
    }
