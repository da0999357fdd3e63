"""A plugin that does everything right, and tells what it was asked: one line each in $ASKED."""

import json
import os
import sys

ROUTES = [
    {"destination": "10.0.0.0/16", "next_hop": {"type": "local"}, "origin": "propagated"},
    {"destination": "0.0.0.0/0", "next_hop": {"type": "hyper-gateway", "id": "hg 1"}, "state": "blackhole", "new": 1},
]
TABLE = {"id": "rt-1", "subnets": ["s-2"], "tags": [{"key": "natd", "value": "yes"}], "routes": ROUTES}
PORT = {
    "id": "port-1",
    "mac": "0A:00:00:00:00:01",
    "addresses": [{"private": "10.0.1.10", "public": "203.0.113.1"}, {"private": "10.0.1.11"}],
    "subnet": "s-1",
    "source_dest_check": True,
    "check_settings": {"pairs": [1, 2]},
    "security": {"inbound": ["10.0.0.0/16"], "outbound": True, "colour": "blue"},
}
BARE = {
    "id": "port-2",
    "mac": "0a:00:00:00:00:02",
    "addresses": [{"private": "10.0.2.10", "public": None}],
    "subnet": "s-2",
    "source_dest_check": False,
}
UNREAD = {
    "id": "port-3",
    "mac": "0a:00:00:00:00:03",
    "addresses": [],
    "subnet": "s-3",
    "source_dest_check": True,
    "source_dest_check_error": {"kind": "conflict", "cause": "it is shared", "advice": "ask its owner"},
    "security_error": {"kind": "denied", "cause": "no right to", "code": "E403", "advice": "allow it"},
}
ANSWERS = {
    "initialize": {"protocol": 1, "name": "good", "version": "1.2", "since": "ever"},
    "instance": {
        "id": "vm-1",
        "region": "north",
        "zone": "n1",
        "network": "net-1",
        "network_cidrs": ["10.0.0.0/16"],
        "subnets": ["s-1"],
        "own_subnet": "public-address-outranks",
    },
    "interfaces": {"interfaces": [PORT, BARE, UNREAD]},
    "route_tables": {
        "found": [TABLE, {"id": "rt-0", "routes": []}, {"id": "rt-9", "routes": []}],
        "missing": [{"id": "rt-7", "error": {"kind": "denied", "cause": "not yours", "request_id": "r7"}}],
    },
    "source_dest_check": {"enabled": False},
}
REFUSED = {"code": -32000, "message": "no", "data": {"kind": "conflict", "cause": "taken", "code": "E9", "request_id": "r9"}}

for line in sys.stdin:
    request = json.loads(line)
    with open(os.environ["ASKED"], "a", encoding="utf-8") as asked:
        asked.write(line)
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if request["params"].get("destination") == "10.99.0.0/16":
        answer["error"] = REFUSED
    else:
        # What has nothing to tell says null.
        answer["result"] = ANSWERS.get(request["method"])
    print(json.dumps(answer), flush=True)
