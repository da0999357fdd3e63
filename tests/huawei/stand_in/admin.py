"""The owner's side, past the API: state, keys, policy, faults and the log, as plain JSON over HTTP.

- `GET /state`, `PUT /state`: all of it; a PUT takes over what it has.
- `PATCH /settings`: some settings.
- `PUT`, `PATCH` and `DELETE /resources/KIND/ID`: one resource, whole or some fields of it.
- `PUT` and `DELETE /resources/routetables/ID/routes`, with `{"destination": ...}`: one route, past all limits.
- `PUT /keys/ACCESS` with `{"secret": ...}`: a permanent key.
- `GET /securitykey/SERVER`: what the metadata service tells that server; `POST` there gives it a new key, with
  `{"life": SECONDS, "expire": false}` if the old one is to stay good.
- `POST /faults`: `{"action", "kind", "times", "detail"}`; `DELETE /faults`.
- `GET /calls`, `DELETE /calls`: the log.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from . import keys
from .state import State
from .traffic import Fault, Traffic
from .wire import Answer, Received


class Admin:
    """The owner's side."""

    def __init__(self, state: State, traffic: Traffic) -> None:
        self.state = state
        self.traffic = traffic

    def answer(self, received: Received) -> Answer:
        """Answers a request; what can't be done says why."""
        try:
            with self.state.lock:
                answer = self._answer(received.method, received.path, received.json())
                if received.method != "GET" and received.path[0] not in ("faults", "calls"):
                    self.state.changed()
                return answer
        except (KeyError, TypeError, ValueError) as error:
            return Answer(400, {"error": repr(error)})

    def _answer(self, method: str, path: list[str], body: Any) -> Answer:
        state, traffic = self.state, self.traffic
        match method, path:
            case "GET", ["state"]:
                return Answer(200, state.dump())
            case "PUT", ["state"]:
                state.load(body)
            case "PATCH", ["settings"]:
                state.load({"settings": body})
            case _, ["resources", "routetables", id_, "routes"]:
                _route(state.of("routetables")[id_], method, body)
            case "PUT", ["resources", kind, id_]:
                state.of(kind)[id_] = {**body, "id": id_}
            case "PATCH", ["resources", kind, id_]:
                state.of(kind)[id_].update(body)
            case "DELETE", ["resources", kind, id_]:
                del state.of(kind)[id_]
            case "PUT", ["keys", access]:
                keys.add(state, access, body["secret"])
            case "GET", ["securitykey", server]:
                return Answer(200, keys.of_agency(state, server))
            case "POST", ["securitykey", server]:
                life = timedelta(seconds=body.get("life", keys.LIFE.total_seconds()))
                keys.rotate(state, server, life, body.get("expire", True))
            case "POST", ["faults"]:
                fault = Fault(**body)
                with traffic.lock:
                    traffic.faults.append(fault)
                return Answer(200, asdict(fault))
            case "DELETE", ["faults"]:
                with traffic.lock:
                    traffic.faults.clear()
            case "GET", ["calls"]:
                with traffic.lock:
                    return Answer(200, list(traffic.calls))
            case "DELETE", ["calls"]:
                with traffic.lock:
                    traffic.calls.clear()
            case _:
                return Answer(404, {"error": f"{method} {path}"})
        return Answer(200, {})


def _route(table: dict[str, Any], method: str, route: dict[str, Any]) -> None:
    others = [other for other in table["routes"] if other["destination"] != route["destination"]]
    table["routes"] = others + [route] if method == "PUT" else others
