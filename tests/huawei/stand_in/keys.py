"""Access keys: permanent ones, and the temporary ones that an ECS has from its agency, which rotate."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from .state import State

LIFE = timedelta(hours=1)
# Before its expiry by this much a key has a successor; until then both are good.
OVERLAP = timedelta(minutes=10)
EXPIRES_AT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Key:
    """What signs a request."""

    access: str
    secret: str
    token: str | None = None
    expires: datetime | None = None


def add(state: State, access: str, secret: str) -> None:
    """Makes a permanent key known."""
    with state.lock:
        state.keys["permanent"][access] = secret
        state.changed()


def find(state: State, access: str) -> Key | None:
    """The key of that id, good or expired."""
    with state.lock:
        secret = state.keys["permanent"].get(access)
        if secret is not None:
            return Key(access, secret)
        kept = state.keys["temporary"].get(access)
        return None if kept is None else _key(kept)


def of_agency(state: State, server: str) -> dict[str, Any]:
    """What `securitykey` tells an ECS: the same key for 50 minutes, then a new one."""
    with state.lock:
        kept = state.keys["temporary"].get(state.keys["agencies"].get(server, ""))
        if kept is None or _key(kept).expires - state.now() < OVERLAP:  # type: ignore[operator]
            kept = _issue(state, server, LIFE)
        return {"credential": kept}


def rotate(state: State, server: str, life: timedelta = LIFE, expire: bool = True) -> None:
    """Gives an ECS a new key ahead of time; the old one is no good any more, unless `expire` is false."""
    with state.lock:
        old = state.keys["temporary"].get(state.keys["agencies"].get(server, ""))
        if old is not None and expire:
            old["expires_at"] = state.now().strftime(EXPIRES_AT)
        _issue(state, server, life)


def _issue(state: State, server: str, life: timedelta) -> dict[str, str]:
    kept = {
        "access": "HST" + secrets.token_hex(8).upper(),
        "secret": secrets.token_urlsafe(30),
        "securitytoken": secrets.token_urlsafe(180),
        "expires_at": (state.now() + life).strftime(EXPIRES_AT),
    }
    state.keys["temporary"][kept["access"]] = kept
    state.keys["agencies"][server] = kept["access"]
    state.changed()
    return kept


def _key(kept: dict[str, str]) -> Key:
    expires = datetime.strptime(kept["expires_at"], EXPIRES_AT).replace(tzinfo=timezone.utc)
    return Key(kept["access"], kept["secret"], kept["securitytoken"], expires)
