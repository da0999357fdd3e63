"""Signs requests again that a stand-in received, with the official SDK alone, and says where it differs.

`python replay.py LOG STATE`: the log of calls and the state, as the stand-in's owner gets them. Nothing of the stand-in
or of what called it is used. Each request must be signed just as the SDK signs it, and one changed byte must not.
"""

from __future__ import annotations

import json
import re
import sys
from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

AUTHORIZATION = re.compile(r"SDK-HMAC-SHA256 Access=(\S+), SignedHeaders=(\S+), Signature=[0-9a-f]{64}")


def signed_again(raw: bytes, secrets: dict[str, str]) -> tuple[str, str]:
    """The `Authorization` that a request came with, and the one that the SDK gives it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    found = AUTHORIZATION.fullmatch(headers["authorization"])
    if found is None:
        raise ValueError(f"unreadable: {headers['authorization']}")
    path, _, query = target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    request = SdkRequest(
        method=method,
        host=headers["host"],
        resource_path=path,
        query_params=[(unquote(name), unquote(value)) for name, _, value in pairs],
        header_params={name: headers[name] for name in found[2].split(";")},
        body=body,
    )
    Signer(BasicCredentials(found[1], secrets[found[1]], "")).sign(request)
    return headers["authorization"], request.header_params["Authorization"]


def changed(raw: bytes) -> bytes:
    """The request with one byte changed: the last of its body, or else the last of its target."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if body:
        return raw[:-1] + bytes([raw[-1] ^ 1])
    end = raw.index(b" HTTP/1.1\r\n")
    return raw[: end - 1] + bytes([raw[end - 1] ^ 1]) + raw[end:]


def main() -> int:
    """0 if all are signed as they must be."""
    log, state = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    secrets = dict(state["keys"]["permanent"])
    secrets |= {access: kept["secret"] for access, kept in state["keys"]["temporary"].items()}
    wrong = 0
    for call in log:
        raw = b64decode(call["raw"])
        came, own = signed_again(raw, secrets)
        if came != own:
            wrong += 1
            print(f"{call['method']} {call['path']}: came with\n  {came}\nthe SDK signs\n  {own}")
        came, own = signed_again(changed(raw), secrets)
        if came == own:
            wrong += 1
            print(f"{call['method']} {call['path']}: a changed byte changes nothing")
    print(f"{len(log)} requests signed again, {wrong} differ")
    return 1 if wrong or not log else 0


if __name__ == "__main__":
    sys.exit(main())
