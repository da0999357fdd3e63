"""The plugin linux-router, spoken to as natd does: with a fake `ip`, and as root in namespaces of its own.

    python3 -m unittest discover --start-directory deploy/plugins/tests
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

PLUGIN = Path(__file__).resolve().parent.parent / "linux-router"

# Says what it was called with, and then what the test wants: a file named after the first words.
FAKE_IP = """#!/bin/sh
printf '%s\\n' "$*" >> "$FAKE/calls"
case "$*" in
    *"addr show"*) file=addr ;;
    *"rule show"*) file=rule ;;
    *"route show exact"*) file=exact ;;
    *"route show table all"*) file=all ;;
    *) file=write ;;
esac
[ -e "$FAKE/$file.err" ] && { cat "$FAKE/$file.err" >&2; exit "$(cat "$FAKE/$file.code")"; }
[ -e "$FAKE/$file" ] && cat "$FAKE/$file"
exit 0
"""


def link(name: str, mac: str, *blocks: str) -> dict[str, Any]:
    addresses = [dict(zip(("local", "prefixlen"), block.split("/")), family="inet") for block in blocks]
    return {"ifname": name, "flags": ["UP"], "link_type": "ether", "address": mac, "addr_info": addresses}


class Talk:
    """A running plugin."""

    def __init__(self, settings: dict[str, Any], environment: dict[str, str] | None = None, prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, sys.executable, str(PLUGIN)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.last = 0
        self.hello = self.ask("initialize", protocol=1, natd="test", settings=settings)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.last += 1
        assert self.process.stdin and self.process.stdout
        request = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["id"] == self.last, answer
        return answer

    def result(self, method: str, **params: Any) -> dict[str, Any]:
        answer = self.ask(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def close(self) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


class WithFakeIp(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        for program in ("ip", "ssh"):
            (self.folder / program).write_text(FAKE_IP)
            (self.folder / program).chmod(0o755)
        self.tell("addr", [link("eth0", "0a:00:00:00:00:01", "10.0.1.10/24")])

    def tell(self, file: str, what: Any) -> None:
        (self.folder / file).write_text(json.dumps(what))

    def refuse(self, file: str, code: int, words: str) -> None:
        (self.folder / f"{file}.err").write_text(words + "\n")
        (self.folder / f"{file}.code").write_text(str(code))

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def talk(self, **settings: Any) -> Talk:
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "FAKE": str(self.folder)}
        talk = Talk({"network_cidrs": ["10.0.0.0/16"], **settings}, environment)
        self.addCleanup(talk.close)
        return talk

    def error(self, answer: dict[str, Any]) -> tuple[str, str]:
        return answer["error"]["data"]["kind"], answer["error"]["data"]["cause"]

    def put(self, talk: Talk, hop: dict[str, str]) -> dict[str, Any]:
        return talk.ask("put", table="100", destination="0.0.0.0/0", next_hop=hop)

    def test_it_ends_when_nothing_more_is_asked(self) -> None:
        talk = self.talk()
        self.assertEqual(talk.hello["result"]["protocol"], 1)
        self.assertEqual(talk.close(), 0)

    def test_settings_are_refused_with_their_names(self) -> None:
        for wrong, word in (
            ({"network_cidrs": []}, "network_cidrs"),
            ({"network_cidrs": ["10.0.0.1/16"]}, "10.0.0.1/16"),
            ({"colour": 1}, "colour"),
            ({"ssh": "root@a", "via": ["x"]}, "ssh and via"),
            ({"ssh": "-oProxyCommand=evil"}, "ssh"),
            ({"tables": {"7": {"table": 7}}}, "tables.7"),
            ({"protocol": 2}, "protocol"),
        ):
            kind, cause = self.error(self.talk(**wrong).hello)
            self.assertEqual(kind, "invalid")
            self.assertIn(word, cause)

    def test_ssh_gets_one_quoted_word(self) -> None:
        talk = self.talk(ssh="root@router", ip=["sudo", "ip; reboot"])
        talk.ask("route_tables", ids=["100"], tags=[], subnets=[])
        there = [call for call in self.calls() if "router" in call]
        self.assertEqual(len(there), 3)
        for call in there:
            self.assertTrue(call.startswith("-o BatchMode=yes -o ConnectTimeout=5 root@router sudo 'ip; reboot' -N "), call)

    def test_a_next_hop_is_nothing_but_a_next_hop(self) -> None:
        talk = self.talk()
        for words in ("via 10.0.0.1 table 254", "-batch /etc/passwd", "to 10.0.0.0/8 via 10.0.0.1", ""):
            kind, _ = self.error(self.put(talk, {"type": "route", "id": words}))
            self.assertEqual(kind, "invalid")
        self.assertFalse([call for call in self.calls() if "replace" in call])
        kind, _ = self.error(self.put(talk, {"type": "interface", "id": "10.0.1.77"}))
        self.assertEqual(kind, "not-found")

    def test_what_could_not_be_given_back_is_not_taken(self) -> None:
        self.tell("exact", [{"dst": "default", "gateway": "10.0.0.1", "dev": "x", "encap": "mpls", "flags": []}])
        kind, cause = self.error(self.put(self.talk(), {"type": "interface", "id": "10.0.1.10"}))
        self.assertEqual(kind, "conflict")
        self.assertIn("encap", cause)

    def test_what_was_learnt_is_outranked_and_never_replaced(self) -> None:
        talk = self.talk()
        learnt = {"dst": "default", "gateway": "10.0.0.1", "dev": "x", "protocol": "16", "flags": []}
        self.tell("exact", [learnt])
        kind, _ = self.error(self.put(talk, {"type": "interface", "id": "10.0.1.10"}))
        self.assertEqual(kind, "conflict")
        self.tell("exact", [learnt | {"metric": 100}])
        self.assertIn("result", self.put(talk, {"type": "interface", "id": "10.0.1.10"}))
        self.assertEqual(self.calls()[-1], "route replace 0.0.0.0/0 table 100 via 10.0.1.10 proto 110 metric 99")

    def test_failures_have_kinds(self) -> None:
        for code, said, kind in (
            (2, "RTNETLINK answers: Operation not permitted", "denied"),
            (255, "root@router: Permission denied (publickey).", "denied"),
            (255, "kex_exchange_identification: Connection closed by remote host", "throttled"),
            (255, "ssh: connect to host router port 22: Connection refused", "unreachable"),
            (2, "Error: Nexthop has invalid gateway.", "not-found"),
            (127, "sh: ip: not found", "unsupported"),
            (1, "something else", "invalid"),
        ):
            self.refuse("write", code, said)
            talk = self.talk(timeout=3)
            found, cause = self.error(self.put(talk, {"type": "route", "id": "via 10.0.0.1"}))
            self.assertEqual(found, kind, said)
            self.assertIn(said, cause)

    def test_what_may_pass_is_tried_again(self) -> None:
        self.refuse("write", 255, "Connection reset")
        talk = self.talk(timeout=3)
        self.put(talk, {"type": "route", "id": "via 10.0.0.1"})
        self.assertGreater(len([call for call in self.calls() if "replace" in call]), 1)

    def test_there_is_no_check(self) -> None:
        talk = self.talk()
        kind, _ = self.error(talk.ask("set_source_dest_check", interface="10.0.1.10", enabled=False))
        self.assertEqual(kind, "unsupported")
        self.assertEqual(talk.result("source_dest_check", interface="10.0.1.10"), {"enabled": False})


@unittest.skipUnless(os.geteuid() == 0, "needs root for network namespaces")
class OnARouter(unittest.TestCase):
    def setUp(self) -> None:
        self.here, self.router = (f"natd-lr-{os.getpid()}-{end}" for end in ("here", "router"))
        for name in (self.here, self.router):
            self.run_ip("netns", "add", name)
            self.addCleanup(subprocess.run, ["ip", "netns", "del", name], check=False)
        self.run_ip("link", "add", "eth0", "netns", self.here, "type", "veth", "peer", "name", "pub", "netns", self.router)
        self.run_ip("-n", self.here, "link", "set", "eth0", "up")
        self.run_ip("-n", self.here, "addr", "add", "10.0.1.10/24", "dev", "eth0")
        self.route_ip("link", "add", "priv", "type", "veth", "peer", "name", "privx")
        for name in ("pub", "priv", "privx"):
            self.route_ip("link", "set", name, "up")
        self.route_ip("addr", "add", "10.0.1.1/24", "dev", "pub")
        self.route_ip("addr", "add", "10.0.2.1/24", "dev", "priv")
        self.route_ip("rule", "add", "pref", "100", "lookup", "main", "suppress_prefixlength", "0")
        self.route_ip("rule", "add", "pref", "200", "iif", "priv", "lookup", "102")
        settings = {"network_cidrs": ["10.0.0.0/16"], "via": ["ip", "netns", "exec", self.router]}
        self.talk = Talk(settings, prefix=("ip", "netns", "exec", self.here))
        self.addCleanup(self.talk.close)

    def run_ip(self, *words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

    def route_ip(self, *words: str) -> str:
        return self.run_ip("-n", self.router, *words)

    def table(self, name: str = "102") -> dict[str, Any]:
        answer = self.talk.result("route_tables", ids=[name], tags=[], subnets=[])
        self.assertEqual(answer["missing"], [])
        return answer["found"][0]

    def hop(self, destination: str = "0.0.0.0/0") -> dict[str, str] | None:
        for route in self.table()["routes"]:
            if route["destination"] == destination:
                return route["next_hop"]
        return None

    def put(self, hop: dict[str, str], destination: str = "0.0.0.0/0") -> None:
        self.talk.result("put", table="102", destination=destination, next_hop=hop)

    def remove(self, destination: str = "0.0.0.0/0") -> None:
        self.talk.result("remove", table="102", destination=destination)

    OWN = {"type": "interface", "id": "10.0.1.10"}

    def test_this_machine_and_its_table(self) -> None:
        self.assertEqual(self.talk.result("instance")["subnets"], ["10.0.1.0/24"])
        port = self.talk.result("interfaces")["interfaces"][0]
        self.assertEqual((port["id"], port["subnet"]), ("10.0.1.10", "10.0.1.0/24"))
        answer = self.talk.result("route_tables", ids=[], tags=[], subnets=["10.0.1.0/24", "priv", "10.0.9.0/24", "9.0.0.0/8"])
        served = {table["id"]: table["subnets"] for table in answer["found"]}
        self.assertEqual(served, {"102": ["10.0.2.0/24", "priv"], "main": ["10.0.1.0/24", "10.0.9.0/24", "pub"]})
        self.assertEqual([missing["id"] for missing in answer["missing"]], ["9.0.0.0/8"])

    def test_put_creates_and_remove_removes_and_both_may_be_repeated(self) -> None:
        self.assertIsNone(self.hop())
        for _ in range(2):
            self.put(self.OWN)
            self.assertEqual(self.hop(), self.OWN)
            self.assertEqual(self.route_ip("route", "show", "table", "102").count("\n"), 1)
        for _ in range(2):
            self.remove()
            self.assertIsNone(self.hop())

    def test_whatever_was_there_is_given_back_to_the_letter(self) -> None:
        for words in (
            "via 10.0.1.99 dev pub proto static metric 50 onlink",
            "via 10.0.1.99 dev pub src 10.0.1.1 realm 5 mtu 1400",
            "nexthop via 10.0.1.98 dev pub weight 2 nexthop via 10.0.2.9 dev priv weight 1",
            "via inet6 fe80::1 dev pub",
            "dev pub scope link",
        ):
            self.route_ip("route", "replace", "0.0.0.0/0", "table", "102", *words.split())
            self.check_round_trip(words)
        for kind in ("blackhole", "unreachable", "prohibit", "throw"):
            self.route_ip("route", "replace", kind, "0.0.0.0/0", "table", "102")
            self.check_round_trip(kind)

    def check_round_trip(self, words: str) -> None:
        before = self.route_ip("-d", "route", "show", "table", "102")
        earlier = self.hop()
        assert earlier, self.table()
        self.put(self.OWN)
        self.assertEqual(self.hop(), self.OWN, words)
        self.put(earlier)
        self.assertEqual(self.route_ip("-d", "route", "show", "table", "102"), before)
        self.remove()
        self.assertEqual(self.table()["routes"], [], words)

    def test_other_routes_are_untouched(self) -> None:
        foreign = ("198.51.100.0/24", "via", "10.0.1.99", "table", "102")
        self.route_ip("route", "add", *foreign)
        self.route_ip("route", "add", "default", "via", "10.0.1.99", "table", "103")
        before = [self.route_ip("route", "show", "table", table) for table in ("main", "103")]
        self.put(self.OWN)
        self.remove()
        self.assertEqual([self.route_ip("route", "show", "table", table) for table in ("main", "103")], before)
        self.assertEqual(self.hop("198.51.100.0/24"), {"type": "route", "id": "via 10.0.1.99 dev pub"})

    def test_a_learnt_route_comes_back_by_itself(self) -> None:
        self.route_ip("route", "add", "default", "via", "10.0.1.99", "proto", "bird", "metric", "32", "table", "102")
        self.assertEqual(self.table()["routes"][0]["origin"], "propagated")
        self.put(self.OWN)
        self.assertEqual(self.hop(), self.OWN)
        self.remove()
        self.assertEqual(self.table()["routes"][0]["origin"], "propagated")

    def test_a_way_out_of_the_network_is_an_internet_gateway(self) -> None:
        self.route_ip("addr", "add", "192.0.2.2/24", "dev", "privx")
        self.route_ip("route", "add", "default", "via", "192.0.2.1", "dev", "privx", "table", "102")
        earlier = self.hop()
        assert earlier, self.table()
        self.assertEqual(earlier["type"], "internet-gateway")
        self.put(self.OWN)
        self.put(earlier)
        self.assertEqual(self.hop(), earlier)

    def test_a_next_hop_that_is_nowhere_is_not_found(self) -> None:
        answer = self.talk.ask("put", table="102", destination="0.0.0.0/0", next_hop={"type": "route", "id": "via 9.9.9.9"})
        self.assertEqual(answer["error"]["data"]["kind"], "not-found")


if __name__ == "__main__":
    unittest.main()
