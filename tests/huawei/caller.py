"""For tests: requests that the official SDK signs, and that go over a socket byte by byte."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timezone
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlencode

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from cloud import ACCESS, SECRET


class Reply:
    """An answer: its status, headers and JSON."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        text = response.read()
        self.body: Any = json.loads(text) if text else None


def signed(
    endpoint: str,
    method: str,
    path: str,
    query: list[tuple[str, str]] | None = None,
    body: Any = None,
    key: tuple[str, str] = (ACCESS, SECRET),
    date: datetime | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    """The bytes of a request, as the official SDK signs it."""
    octets = b"" if body is None else json.dumps(body).encode()
    stamp = (date or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    request = SdkRequest(
        method=method,
        host=endpoint,
        resource_path=path,
        query_params=query or [],
        header_params={"Content-Type": "application/json", "X-Sdk-Date": stamp, **(headers or {})},
        body=octets,
    )
    Signer(BasicCredentials(*key, "")).sign(request)
    target = path + (f"?{urlencode(sorted(query))}" if query else "")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.header_params.items())]
    if octets:
        lines.append(f"Content-Length: {len(octets)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + octets


def send(endpoint: str, raw: bytes) -> Reply | None:
    """Sends bytes as they are; None where the connection is dropped unanswered."""
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        response = HTTPResponse(connection)
        try:
            response.begin()
        except ConnectionError:
            return None
        return Reply(response)
