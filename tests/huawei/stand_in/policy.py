"""Which action a request is, in the words of IAM, and whether a policy allows it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from .errors import Refusal

READ, WRITE = False, True


class Action(NamedTuple):
    """What a request does."""

    name: str
    is_write: bool
    # Who answers it, and the id of what it is about.
    resource: str
    id: str | None


# By version and resource: what each method does with the list, and with one of it.
_ACTIONS: dict[tuple[str, str], dict[tuple[str, bool], tuple[str, bool]]] = {
    ("v1", "ports"): {
        ("GET", False): ("vpc:ports:get", READ),
        ("GET", True): ("vpc:ports:get", READ),
        ("PUT", True): ("vpc:ports:update", WRITE),
        ("POST", False): ("vpc:ports:create", WRITE),
    },
    ("v1", "routetables"): {
        ("GET", False): ("vpc:routeTables:list", READ),
        ("GET", True): ("vpc:routeTables:get", READ),
        ("PUT", True): ("vpc:routeTables:update", WRITE),
    },
    ("v1", "vpcs"): {
        ("GET", False): ("vpc:vpcs:list", READ),
        ("GET", True): ("vpc:vpcs:get", READ),
    },
    ("v3", "vpcs"): {("GET", True): ("vpc:vpcs:get", READ)},
    ("v1", "subnets"): {
        ("GET", False): ("vpc:subnets:get", READ),
        ("GET", True): ("vpc:subnets:get", READ),
    },
    ("v1", "publicips"): {
        ("GET", False): ("vpc:publicIps:list", READ),
        ("GET", True): ("vpc:publicIps:get", READ),
        ("PUT", True): ("vpc:publicIps:update", WRITE),
    },
    ("v1", "cloudservers"): {("GET", True): ("ecs:cloudServers:get", READ)},
    ("v3", "projects"): {("GET", False): ("iam:projects:list", READ)},
}

# Everybody may ask these.
_FREE = {"iam:projects:list"}

# How each service says no. Only the first names the action.
_DENIALS = {
    "routetables": lambda action: Refusal(403, "VPC.2201", f"Policy doesn't allow {action} to be performed."),
    "ports": lambda _: Refusal(403, "VPC.0010", "Rules on port disallowed by policy"),
    "subnets": lambda _: Refusal(403, "VPC.2701", "Token not allowed to do this action."),
    "vpcs": lambda _: Refusal(403, "VPC.2701", "Token not allowed to do this action."),
    "publicips": lambda _: Refusal(403, "APIGW.0302", "The IAM user is not allowed to access the API", "gateway"),
    "cloudservers": lambda _: Refusal(403, "Ecs.0011", "Rules disallowed by policy", "ecs"),
}


def action_of(method: str, path: list[str]) -> tuple[Action, str | None] | None:
    """The action of a request and the project that it is for; None where there is no such API."""
    project: str | None = None
    match path:
        case ["v3", "projects"]:
            version, resource, ids = "v3", "projects", []
        case ["v3", project, "vpc", "vpcs", *ids]:
            version, resource = "v3", "vpcs"
        case ["v1", project, resource, *ids]:
            version = "v1"
        case _:
            return None
    if len(ids) > 1:
        return None
    found = _ACTIONS.get((version, resource), {}).get((method, bool(ids)))
    if found is None:
        return None
    name, is_write = found
    key = f"{version}/{resource}" if version == "v3" else resource
    return Action(name, is_write, key, ids[0] if ids else None), project


def enforce(policy: dict[str, Any] | None, action: Action) -> None:
    """Refuses what no statement allows, or one denies."""
    if policy is None or action.name in _FREE:
        return
    effects = {
        statement["Effect"]
        for statement in policy["Statement"]
        if any(fnmatchcase(action.name, pattern) for pattern in statement["Action"])
    }
    if effects != {"Allow"}:
        raise _DENIALS[action.resource.rpartition("/")[2]](action.name)
