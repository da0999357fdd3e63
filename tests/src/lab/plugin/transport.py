"""In the place of ssh: has the lab run a command on the Linux router, and ends as it did there.

usage: transport SOCKET COMMAND...
"""

import json
import os
import socket
import sys


def main() -> int:
    path, *command = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as lab:
        try:
            lab.connect(path)
        except OSError as error:
            print(f"transport: {error.strerror}", file=sys.stderr)
            return 255
        lab.sendall(json.dumps(command).encode() + b"\n")
        answer = lab.makefile("rb").read()
    if not answer:
        print("transport: the connection was closed", file=sys.stderr)
        return 255
    ended = json.loads(answer)
    sys.stdout.write(ended["stdout"])
    sys.stderr.write(ended["stderr"])
    return ended["code"]


if __name__ == "__main__":
    # As ssh does, and with nothing left unsaid where a pipe was closed.
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
