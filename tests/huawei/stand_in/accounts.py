"""Servers as ECS tells them, and projects as IAM does."""

from __future__ import annotations

from .errors import Refusal
from .state import State
from .wire import Answer, Received


def servers(state: State, _received: Received, id_: str | None) -> Answer:
    """A server."""
    server = state.of("servers").get(id_ or "")
    if server is None:
        raise Refusal(404, "Ecs.0114", f"Instance[{id_}] could not be found.", "ecs")
    return Answer(200, {"server": server})


def projects(state: State, received: Received, _id: str | None) -> Answer:
    """The project of the region, whose name it has."""
    project = {
        "id": state.settings["project_id"],
        "name": state.settings["region"],
        "domain_id": "d78cbac186b744899480f25bd022f468",
        "parent_id": "d78cbac186b744899480f25bd022f468",
        "is_domain": False,
        "enabled": True,
        "description": "",
        "links": {"self": ""},
    }
    asked = dict(received.query).get("name")
    found = [project] if asked in (None, project["name"]) else []
    return Answer(200, {"projects": found, "links": {"self": "", "previous": None, "next": None}})
