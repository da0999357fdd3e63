"""Refusals, in all the shapes that Huawei's services have for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable


@dataclass
class Refusal(Exception):
    """A request that is not carried out: its status, its code, and what is said about it."""

    status: int
    code: str
    message: str
    shape: str = "v1"

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        return SHAPES[self.shape](self, request_id)


def _v1(refusal: Refusal, _request_id: str) -> dict[str, Any]:
    return {"code": refusal.code, "message": refusal.message}


def _v3(refusal: Refusal, request_id: str) -> dict[str, Any]:
    return {"error_code": refusal.code, "error_msg": refusal.message, "request_id": request_id}


def _camel_case(refusal: Refusal, _request_id: str) -> dict[str, Any]:
    return {"errorCode": refusal.code, "errorMsg": refusal.message}


def _nested(refusal: Refusal, _request_id: str) -> dict[str, Any]:
    return {"error": {"code": refusal.code, "message": refusal.message}}


def _neutron(refusal: Refusal, _request_id: str) -> dict[str, Any]:
    return {"NeutronError": {"type": refusal.code, "message": refusal.message, "detail": ""}}


def _escaped(refusal: Refusal, request_id: str) -> dict[str, Any]:
    inner = json.dumps(_neutron(refusal, request_id))
    return {"error_code": "VPC.0001", "error_msg": inner, "request_id": request_id}


def _iam(refusal: Refusal, _request_id: str) -> dict[str, Any]:
    return {"error": {"code": refusal.status, "message": refusal.message, "title": refusal.code}}


SHAPES: dict[str, Callable[[Refusal, str], dict[str, Any]]] = {
    "v1": _v1,
    "v3": _v3,
    "gateway": _v3,
    "camelCase": _camel_case,
    "ecs": _nested,
    "neutron": _neutron,
    "escaped": _escaped,
    "iam": _iam,
}


def unauthorised(message: str) -> Refusal:
    """The gateway doesn't believe who asks."""
    text = f"Incorrect IAM authentication information: {message}"
    return Refusal(401, "APIGW.0301", text, "gateway")


def no_such_api() -> Refusal:
    """The gateway has nothing at that host, path and method."""
    return Refusal(404, "APIGW.0101", "The API does not exist or has not been published in the environment", "gateway")


def throttled() -> Refusal:
    """Too many requests. There is no Retry-After."""
    return Refusal(429, "APIGW.0308", "The throttling threshold has been reached: policy user over ratelimit", "gateway")


def invalid(message: str, code: str = "VPC.0002") -> Refusal:
    """A parameter that can't be right."""
    return Refusal(400, code, message)
