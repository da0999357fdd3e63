"""Every signature is checked: nothing of what was signed can be another, nor its time, nor its key."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from caller import send, signed
from cloud import ACCESS, Cloud, HERE, Small

DEFAULT = "0.0.0.0/0"


class Signatures(unittest.TestCase):
    """All tests share a cloud, in which nothing is to change."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.stop)
        cls.small = Small()
        cls.cloud.admin("PUT", "/state", cls.small.dump)
        cls.ports = f"/v1/{cls.small.project}/ports"
        cls.table = f"/v1/{cls.small.project}/routetables/{cls.small.tables[0]}"

    def refused(self, raw: bytes) -> None:
        """It is answered with 401, by the gateway."""
        reply = send(self.cloud.endpoint, raw)
        self.assertIsNotNone(reply)
        assert reply is not None
        self.assertEqual((reply.status, (reply.body or {}).get("error_code")), (401, "APIGW.0301"), raw)

    def test_one_changed_byte_of_what_is_signed_is_refused(self) -> None:
        route = {"type": "ecs", "destination": DEFAULT, "nexthop": self.small.server}
        body = {"routetable": {"routes": {"add": [route]}}}
        # Whatever is carried out of a changed request would change this.
        before = self.cloud.admin("GET", "/state")
        for raw in (
            signed(self.cloud.endpoint, "GET", self.ports, [("device_id", "a b+c"), ("limit", "2")]),
            signed(self.cloud.endpoint, "PUT", self.table, body=body),
        ):
            head, _, octets = raw.partition(b"\r\n\r\n")
            places = [*range(head.index(b" HTTP/1.1"))]
            offset = head.index(b"\r\n") + 2
            for line in head[offset:].split(b"\r\n"):
                name, _, value = line.partition(b": ")
                # The framing isn't signed.
                if name != b"Content-Length":
                    places += range(offset + len(name) + 2, offset + len(line))
                offset += len(line) + 2
            places += range(len(head) + 4, len(raw))
            changes = 0
            for place in places[:: 1 if not octets else 2]:
                # No other space, and no `?` where there was none: the framing again.
                if raw[place : place + 1] in (b" ", b"?") or raw[place] ^ 1 in b" ?\r\n":
                    continue
                self.refused(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
                changes += 1
            self.assertGreater(changes, 150)
        self.assertEqual(self.cloud.admin("GET", "/state"), before)

    def test_what_is_well_signed_is_served(self) -> None:
        query = [("device_id", "a b+c/ü~"), ("limit", "2"), ("marker", "")]
        reply = send(self.cloud.endpoint, signed(self.cloud.endpoint, "GET", self.ports, query).replace(b"+", b"%20"))
        assert reply is not None
        self.assertEqual((reply.status, reply.body), (200, {"ports": []}))
        self.assertTrue(reply.headers["X-Request-Id"])
        self.assertTrue(reply.headers["Date"])

    def test_a_clock_may_be_15_minutes_off(self) -> None:
        now = datetime.now(timezone.utc)
        for off, good in ((-14, True), (14, True), (-16, False), (16, False)):
            raw = signed(self.cloud.endpoint, "GET", self.ports, date=now + timedelta(minutes=off))
            reply = send(self.cloud.endpoint, raw)
            assert reply is not None
            self.assertEqual(reply.status, 200 if good else 401, f"{off} minutes")

    def test_unknown_and_missing_keys_are_refused(self) -> None:
        self.refused(signed(self.cloud.endpoint, "GET", self.ports, key=("NOBODY", "nothing")))
        self.refused(signed(self.cloud.endpoint, "GET", self.ports, key=(ACCESS, "another")))
        self.refused(f"GET {self.ports} HTTP/1.1\r\nHost: {self.cloud.endpoint}\r\n\r\n".encode())

    def test_a_temporary_key_needs_its_token_signed(self) -> None:
        kept = self.cloud.admin("GET", f"/securitykey/{self.small.server}")["credential"]
        key, token = (kept["access"], kept["secret"]), {"X-Security-Token": kept["securitytoken"]}
        whole = signed(self.cloud.endpoint, "GET", self.ports, key=key, headers=token)
        reply = send(self.cloud.endpoint, whole)
        assert reply is not None
        self.assertEqual(reply.status, 200)
        bare = signed(self.cloud.endpoint, "GET", self.ports, key=key)
        self.refused(bare)
        added = f"\r\nX-Security-Token: {kept['securitytoken']}\r\n\r\n".encode()
        self.refused(bare.replace(b"\r\n\r\n", added))

    def test_a_signature_comes_before_everything_else(self) -> None:
        self.refused(signed(self.cloud.endpoint, "GET", "/nowhere", key=("NOBODY", "nothing")))
        reply = send(self.cloud.endpoint, signed(self.cloud.endpoint, "GET", "/nowhere"))
        assert reply is not None
        self.assertEqual((reply.status, reply.body["error_code"]), (404, "APIGW.0101"))

    def test_replay_tells_good_from_bad(self) -> None:
        self.cloud.admin("DELETE", "/calls")
        for raw in (
            signed(self.cloud.endpoint, "GET", self.ports, [("limit", "1")]),
            signed(self.cloud.endpoint, "PUT", self.table, body={"routetable": {"routes": {}}}),
        ):
            send(self.cloud.endpoint, raw)
        self.assertEqual(self.replay(), (0, "2 requests signed again, 0 differ"))
        send(self.cloud.endpoint, raw.replace(b"Signature=", b"Signature=0")[:-65] + raw[-65:])
        send(self.cloud.endpoint, signed(self.cloud.endpoint, "GET", self.ports, key=(ACCESS, "another")))
        code, last = self.replay()
        self.assertNotEqual((code, last), (0, "4 requests signed again, 0 differ"))

    def replay(self) -> tuple[int, str]:
        """What the replay ends with, and its last words."""
        with tempfile.TemporaryDirectory() as folder:
            names = [Path(folder) / "log", Path(folder) / "state"]
            for name, path in zip(names, ("/calls", "/state")):
                name.write_text(json.dumps(self.cloud.admin("GET", path)))
            command = [sys.executable, str(HERE / "replay.py"), *map(str, names)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.returncode, (run.stdout.splitlines() or [""])[-1]


if __name__ == "__main__":
    unittest.main()
