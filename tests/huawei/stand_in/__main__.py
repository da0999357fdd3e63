"""Starts the stand-in: `python -m stand_in --listen 127.0.0.1:8081 --admin 127.0.0.1:8082 [--state FILE]`."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from .admin import Admin
from .server import serve
from .service import Service
from .state import State
from .traffic import Traffic


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _follow_input() -> None:
    """Ends the process with its standard input: with whoever started it, however that ended."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Listens until its standard input ends. Once it does it prints both addresses, which tells a chosen port 0."""
    parser = argparse.ArgumentParser(prog="stand_in", description="A stand-in for Huawei Cloud.")
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="the API")
    parser.add_argument("--admin", type=_address, required=True, metavar="HOST:PORT", help="the owner's side")
    parser.add_argument("--state", type=Path, metavar="FILE", help="where the state outlives a restart")
    arguments = parser.parse_args()
    threading.Thread(target=_follow_input, daemon=True).start()
    state, traffic = State(arguments.state), Traffic()
    api = serve(arguments.listen, Service(state, traffic).answer)
    admin = serve(arguments.admin, Admin(state, traffic).answer)
    for listener in (api, admin):
        host, port = listener.server_address[:2]
        print(f"{host}:{port}", flush=True)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    admin.serve_forever()


if __name__ == "__main__":
    main()
