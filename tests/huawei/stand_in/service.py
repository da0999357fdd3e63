"""A request's way to its answer: clock, signature, API, project, policy, limits, and then what it asks for."""

from __future__ import annotations

import time
import uuid
from email.utils import format_datetime
from typing import Callable

from . import accounts, keys, networks, policy, ports, public_ips, route_tables, signature
from .errors import Refusal, no_such_api
from .policy import Action
from .state import State
from .traffic import Fault, Traffic
from .wire import Answer, Received

_RESOURCES: dict[str, Callable[[State, Received, str | None], Answer]] = {
    "ports": ports.answer,
    "routetables": route_tables.answer,
    "vpcs": networks.vpcs,
    "v3/vpcs": networks.vpcs_v3,
    "subnets": networks.subnets,
    "publicips": public_ips.answer,
    "cloudservers": accounts.servers,
    "v3/projects": accounts.projects,
}


class Service:
    """The API."""

    def __init__(self, state: State, traffic: Traffic) -> None:
        self.state = state
        self.traffic = traffic

    def answer(self, received: Received) -> Answer | None:
        """Answers a request; None drops its connection."""
        found = policy.action_of(received.method, received.path)
        action, project = found if found is not None else (None, None)
        name = action.name if action else f"{received.method} {received.target}"
        call = self.traffic.log(received, name, action.is_write if action else False)
        fault = self.traffic.next_fault(name)
        answer = self._respond(received, action, project, fault)
        call["status"] = None if answer is None else answer.status
        if fault is not None and fault.kind == "delay-answer":
            time.sleep(fault.detail["seconds"])
        return answer

    def _respond(
        self, received: Received, action: Action | None, project: str | None, fault: Fault | None
    ) -> Answer | None:
        kind = None if fault is None else fault.kind
        if kind == "drop-before":
            return None
        if kind == "delay":
            time.sleep(fault.detail["seconds"])  # type: ignore[union-attr]
        request_id = uuid.uuid4().hex
        try:
            if kind == "refuse":
                raise Refusal(**fault.detail)  # type: ignore[union-attr]
            answer = self._carry_out(received, action, project)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.body(request_id))
        if isinstance(answer.body, dict) and "request_id" in answer.body:
            answer.body["request_id"] = request_id
        answer.headers |= {"X-Request-Id": request_id, "Date": format_datetime(self.state.now(), usegmt=True)}
        return None if kind == "drop-after" else answer

    def _carry_out(self, received: Received, action: Action | None, project: str | None) -> Answer:
        state = self.state
        signature.check(received, lambda access: keys.find(state, access), state.now())
        if action is None:
            raise no_such_api()
        with state.lock:
            if project not in (None, state.settings["project_id"]):
                raise Refusal(400, "VPC.0007", "urlTenantId is not equal tokenTenantId")
            policy.enforce(state.settings["policy"], action)
            if action.is_write:
                self.traffic.limit_writes(state.settings["writes_a_minute"], state.now())
            answer = _RESOURCES[action.resource](state, received, action.id)
            if action.is_write:
                state.changed()
            return answer
