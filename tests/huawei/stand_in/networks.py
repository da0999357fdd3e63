"""VPCs and their subnets, which nobody changes here."""

from __future__ import annotations

from typing import Any

from .errors import Refusal
from .paging import matching, page
from .state import State
from .wire import Answer, Received


def vpcs(state: State, received: Received, id_: str | None) -> Answer:
    """VPCs as version 1 tells them: without their secondary blocks."""
    if id_ is None:
        found = matching(state.of("vpcs").values(), received.query, ("id",))
        rows = page(found, received.query, state.settings["longest_page"])
        return Answer(200, {"vpcs": [_first(state, vpc) for vpc in rows]})
    vpc = state.of("vpcs").get(id_)
    if vpc is None:
        raise Refusal(404, "VPC.0003", "VPC does not exist.")
    return Answer(200, {"vpc": _first(state, vpc)})


def vpcs_v3(state: State, _received: Received, id_: str | None) -> Answer:
    """A VPC as version 3 tells it."""
    vpc = state.of("vpcs").get(id_ or "")
    if vpc is None:
        raise Refusal(404, "VPC.0003", "VPC does not exist.", "v3")
    shown = {
        **_common(vpc),
        "extend_cidrs": vpc["extend_cidrs"],
        "project_id": state.settings["project_id"],
        "cloud_resources": [{"resource_type": "routetable", "resource_count": 1}],
        "tags": [],
    }
    return Answer(200, {"vpc": shown, "request_id": ""})


def subnets(state: State, received: Received, id_: str | None) -> Answer:
    """Subnets."""
    if id_ is None:
        found = matching(state.of("subnets").values(), received.query, ("id", "vpc_id"))
        return Answer(200, {"subnets": page(found, received.query, state.settings["longest_page"])})
    subnet = state.of("subnets").get(id_)
    if subnet is None:
        raise Refusal(404, "VPC.0202", f"Subnet {id_} could not be found.")
    return Answer(200, {"subnet": subnet})


def _common(vpc: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "name", "description", "cidr", "status", "enterprise_project_id", "created_at", "updated_at")
    return {name: vpc[name] for name in names}


def _first(state: State, vpc: dict[str, Any]) -> dict[str, Any]:
    return {**_common(vpc), "routes": [], "tenant_id": state.settings["project_id"]}
