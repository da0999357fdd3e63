"""Checks signatures by signing what was received again, with the official SDK's signer, and comparing."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timedelta, timezone
from typing import Callable
from urllib.parse import unquote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from .errors import unauthorised
from .keys import Key
from .wire import Received

AUTHORIZATION = re.compile(r"SDK-HMAC-SHA256 Access=([^,\s]+), SignedHeaders=([^,\s]+), Signature=([0-9a-f]{64})")
SKEW = timedelta(minutes=15)


def sign_again(received: Received, key: Key, names: list[str]) -> str:
    """The `Authorization` that the official SDK gives a request with those headers signed."""
    path, _, query = received.target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    request = SdkRequest(
        method=received.method,
        schema="http",
        host=received.header("host"),
        resource_path=path,
        query_params=[(unquote(name), unquote(value)) for name, _, value in pairs],
        header_params={name: received.header(name) for name in names},
        body=received.body,
    )
    signed = Signer(BasicCredentials(key.access, key.secret, "")).sign(request)
    return signed.header_params["Authorization"]


def check(received: Received, find: Callable[[str], Key | None], now: datetime) -> Key:
    """The key that signed the request. Refuses what no known, living key signed just as it is here."""
    found = AUTHORIZATION.fullmatch(received.header("authorization"))
    if found is None:
        raise unauthorised("authorization header is missing or malformed")
    access, names, _ = found.groups()
    signed = names.split(";")
    for name in signed:
        if len(received.all(name)) != 1:
            raise unauthorised(f"signed header {name} is there {len(received.all(name))} times")
    for needed in ("host", "x-sdk-date"):
        if needed not in signed:
            raise unauthorised(f"{needed} is not signed")
    _check_clock(received.header("x-sdk-date"), now)
    key = find(access)
    if key is None:
        raise unauthorised(f"Get secretKey failed,ak:{access}")
    try:
        expected = sign_again(received, key, signed)
    except ValueError:
        raise unauthorised("what is signed is no text") from None
    if not hmac.compare_digest(expected, received.header("authorization")):
        raise unauthorised("verify aksk signature fail")
    _check_body(received)
    _check_token(received, key, signed, now)
    return key


def _check_clock(date: str, now: datetime) -> None:
    try:
        then = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise unauthorised("x-sdk-date is malformed") from None
    if abs(now - then) > SKEW:
        raise unauthorised(f"Signature expired, the request time {date} is not within 15 minutes")


def _check_body(received: Received) -> None:
    """A hash that stands in for the body's own must be the body's own."""
    claimed = received.header("x-sdk-content-sha256")
    own = hashlib.sha256(received.body).hexdigest()
    if claimed and claimed != "UNSIGNED-PAYLOAD" and claimed != own:
        raise unauthorised("the body is not what x-sdk-content-sha256 says")


def _check_token(received: Received, key: Key, signed: list[str], now: datetime) -> None:
    if key.token is None:
        return
    if received.header("x-security-token") != key.token or "x-security-token" not in signed:
        raise unauthorised("the security token is missing, another, or not signed")
    if key.expires is not None and now >= key.expires:
        raise unauthorised("the token has expired")
