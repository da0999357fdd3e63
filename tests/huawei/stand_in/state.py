"""The cloud: its resources by kind and id, its settings, and the file that both outlive a restart in."""

from __future__ import annotations

import copy
import json
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

KINDS = ("vpcs", "subnets", "ports", "routetables", "publicips", "servers", "targets", "security_groups")

SETTINGS: dict[str, Any] = {
    "region": "lab-south-1",
    "project_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    # No list gives more at once.
    "longest_page": 2000,
    # Some deployments leave `default` out of route tables.
    "default_in_tables": True,
    # Writes that are let through in any minute; None: all.
    "writes_a_minute": None,
    # What this cloud's clock is ahead of the machine's, in seconds.
    "clock_ahead": 0,
    # None: everything is allowed.
    "policy": None,
}


class State:
    """All of it. `lock` is held by whoever reads or changes more than one thing."""

    def __init__(self, file: Path | None = None) -> None:
        self.lock = threading.RLock()
        self.file = file
        self.settings: dict[str, Any] = copy.deepcopy(SETTINGS)
        self.resources: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.keys: dict[str, Any] = {"permanent": {}, "temporary": {}, "agencies": {}}
        if file is not None and file.exists():
            self.load(json.loads(file.read_text()))

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a kind, by id."""
        return self.resources[kind]

    def dump(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        with self.lock:
            whole = {"settings": self.settings, "resources": self.resources, "keys": self.keys}
            return copy.deepcopy(whole)

    def load(self, whole: dict[str, Any]) -> None:
        """Takes over what `dump` gave. What is not in it stays as it is."""
        with self.lock:
            unknown = set(whole.get("resources", {})) - set(KINDS) | set(whole.get("settings", {})) - set(SETTINGS)
            if unknown:
                raise ValueError(f"unknown: {sorted(unknown)}")
            self.settings.update(whole.get("settings", {}))
            self.resources.update(whole.get("resources", {}))
            self.keys.update(whole.get("keys", {}))

    def changed(self) -> None:
        """Writes all of it down, whole or not at all."""
        if self.file is None:
            return
        with self.lock:
            beside = self.file.with_suffix(".new")
            beside.touch(mode=0o600)
            beside.write_text(json.dumps(self.dump()))
            os.replace(beside, self.file)

    def now(self) -> datetime:
        """This cloud's time."""
        stamp = datetime.now(timezone.utc).timestamp() + self.settings["clock_ahead"]
        return datetime.fromtimestamp(stamp, timezone.utc)

    def stamp(self) -> str:
        """This cloud's time, as resources carry it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
