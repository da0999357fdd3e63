"""For tests: the stand-in as a process of its own, a small cloud in it, and its owner's side."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from stand_in.ports import new
from stand_in.state import State

HERE = Path(__file__).parent
ACCESS, SECRET = "LABACCESSKEY00000001", "lab-secret-of-the-owner"
MADE = "2024-01-01T00:00:00Z"


class Cloud:
    """A running stand-in. It ends with its `with`."""

    def __init__(self, state: Path | None = None) -> None:
        self.file = state
        self.start()

    def start(self) -> None:
        """Starts the process, which reads its state file if it has one."""
        command = [sys.executable, "-m", "stand_in", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        if self.file is not None:
            command += ["--state", str(self.file)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=HERE, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        self.endpoint, self.owner = (self.process.stdout.readline().strip() for _ in range(2))

    def stop(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> "Cloud":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Calls the owner's side."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.owner}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from error


class Small:
    """The ids of a small cloud: a VPC of two blocks, two subnets, a server with a port and a public address."""

    def __init__(self, tables: int = 3) -> None:
        state = State()
        self.vpc, self.server, self.peering = (str(uuid.uuid4()) for _ in range(3))
        self.subnets = [str(uuid.uuid4()) for _ in range(2)]
        self.tables = [str(uuid.uuid4()) for _ in range(tables)]
        self.eips = [str(uuid.uuid4()) for _ in range(2)]
        state.of("vpcs")[self.vpc] = {
            "id": self.vpc,
            "name": "lab",
            "description": "",
            "cidr": "10.10.0.0/16",
            "extend_cidrs": ["10.20.0.0/16"],
            "status": "OK",
            "enterprise_project_id": "0",
            "created_at": MADE,
            "updated_at": MADE,
        }
        for number, subnet in enumerate(self.subnets):
            state.of("subnets")[subnet] = {
                "id": subnet,
                "name": f"subnet-{number}",
                "cidr": f"10.10.{number}.0/24",
                "gateway_ip": f"10.10.{number}.1",
                "vpc_id": self.vpc,
                "neutron_network_id": subnet,
                "neutron_subnet_id": str(uuid.uuid4()),
                "status": "ACTIVE",
            }
        for number, table in enumerate(self.tables):
            state.of("routetables")[table] = {
                "id": table,
                "name": f"table-{number}",
                "default": number == 0,
                "vpc_id": self.vpc,
                "subnets": self.subnets[number : number + 1],
                "routes": [],
                "created_at": MADE,
                "updated_at": MADE,
            }
        state.of("servers")[self.server] = {"id": self.server, "name": "nat", "status": "ACTIVE"}
        state.of("targets")[self.peering] = {"id": self.peering}
        subnet = state.of("subnets")[self.subnets[0]]
        port = new(state, subnet, "10.10.0.10", self.server, "compute:lab-south-1a")
        self.port = port["id"]
        state.of("ports")[self.port] = port
        for number, eip in enumerate(self.eips):
            address = f"203.0.113.{10 + number}"
            state.of("publicips")[eip] = {
                "id": eip,
                "public_ip_address": address,
                "port_id": "",
                "create_time": MADE,
            }
        state.keys["permanent"][ACCESS] = SECRET
        self.project = state.settings["project_id"]
        self.region = state.settings["region"]
        self.dump = state.dump()
