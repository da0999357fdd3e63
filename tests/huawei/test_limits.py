"""What the cloud refuses, what it refuses to whom, and what goes wrong on demand."""

from __future__ import annotations

import unittest
from typing import Any

from caller import Reply, send, signed
from cloud import Cloud, Small

DEFAULT = "0.0.0.0/0"
LEAST = [
    "vpc:ports:get",
    "vpc:ports:update",
    "vpc:routeTables:list",
    "vpc:routeTables:get",
    "vpc:routeTables:update",
    "vpc:vpcs:get",
    "vpc:subnets:get",
    "vpc:publicIps:list",
    "vpc:publicIps:get",
]


def code_of(reply: Reply) -> str:
    """The code, in whichever shape."""
    body = reply.body
    inner = body.get("error") or body.get("NeutronError") or {}
    return str(body.get("code") or body.get("error_code") or inner.get("code") or inner.get("type"))


class Limits(unittest.TestCase):
    """All tests share the process; each has the cloud as it was."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.stop)

    def setUp(self) -> None:
        self.small = Small()
        self.cloud.admin("PUT", "/state", self.small.dump)
        self.cloud.admin("DELETE", "/faults")
        self.cloud.admin("DELETE", "/calls")
        self.table = f"routetables/{self.small.tables[0]}"
        self.port = f"ports/{self.small.port}"

    def call(self, method: str, path: str, body: Any = None, query: list[tuple[str, str]] | None = None) -> Reply:
        """A call of the project's."""
        path = path if path.startswith("/") else f"/v1/{self.small.project}/{path}"
        reply = send(self.cloud.endpoint, signed(self.cloud.endpoint, method, path, query, body))
        assert reply is not None
        return reply

    def change(self, **routes: list[dict[str, str]]) -> Reply:
        """A change of routes."""
        return self.call("PUT", self.table, {"routetable": {"routes": routes}})

    def route(self, destination: str = DEFAULT, **other: str) -> dict[str, str]:
        """A route to the server."""
        return {"type": "ecs", "destination": destination, "nexthop": self.small.server, **other}

    def refused(self, reply: Reply, status: int, code: str) -> None:
        """It is refused so."""
        self.assertEqual((reply.status, code_of(reply)), (status, code), reply.body)

    def test_one_route_a_destination(self) -> None:
        gone = {"destination": DEFAULT}
        self.refused(self.change(mod=[self.route()]), 400, "VPC.2813")
        self.refused(self.change(**{"del": [gone]}), 400, "VPC.2813")
        self.assertEqual(self.change(add=[self.route()]).status, 200)
        self.refused(self.change(add=[self.route()]), 400, "VPC.2812")
        self.refused(self.change(add=[self.route("10.10.1.0/24")]), 400, "VPC.2812")
        self.assertEqual(self.change(mod=[self.route()]).status, 200)
        self.assertEqual(self.change(**{"del": [gone]}).status, 200)

    def test_a_change_is_made_whole_or_not_at_all(self) -> None:
        self.refused(self.change(add=[self.route("192.0.2.0/24"), self.route("10.10.1.0/24")]), 400, "VPC.2812")
        routes = self.call("GET", self.table).body["routetable"]["routes"]
        self.assertEqual({route["type"] for route in routes}, {"local"})

    def test_the_next_hop_must_be_there(self) -> None:
        self.refused(self.change(add=[self.route(nexthop="nobody")]), 404, "VPC.2814")
        self.refused(self.change(add=[self.route(type="vip", nexthop="10.10.0.10")]), 404, "VPC.2814")
        self.refused(self.change(add=[self.route(type="teleport")]), 400, "VPC.2800")
        self.assertEqual(self.change(add=[self.route(type="eni", nexthop=self.small.port)]).status, 200)

    def test_200_routes_a_table(self) -> None:
        for five in range(40):
            routes = [self.route(f"198.18.{five}.{number}/32") for number in range(5)]
            self.assertEqual(self.change(add=routes).status, 200)
        self.refused(self.change(add=[self.route()]), 409, "VPC.2811")
        six = [self.route(f"198.19.0.{number}/32") for number in range(6)]
        self.refused(self.change(add=six), 400, "VPC.2800")

    def test_the_whole_world_is_no_address_pair(self) -> None:
        def pairs(*addresses: str, **other: str) -> Reply:
            wanted = [{"ip_address": address} for address in addresses]
            return self.call("PUT", self.port, {"port": {"allowed_address_pairs": wanted, **other}})

        refused = pairs(DEFAULT)
        self.refused(refused, 400, "VPC.0001")
        self.assertIn('{"NeutronError": ', refused.body["error_msg"])
        self.assertEqual(pairs("1.1.1.1/0", "10.99.0.7").status, 200)
        self.refused(pairs("1.1.1.1/0", port_security_enabled="false"), 400, "VPC.2500")
        shown = self.call("GET", self.port).body["port"]["allowed_address_pairs"]
        self.assertEqual(shown, [{"ip_address": "1.1.1.1/0"}, {"ip_address": "10.99.0.7"}])

    def test_public_addresses_are_bound_once(self) -> None:
        first, second = (f"publicips/{eip}" for eip in self.small.eips)
        bind = {"publicip": {"port_id": self.small.port}}
        self.assertEqual(self.call("PUT", first, bind).status, 200)
        self.refused(self.call("PUT", first, bind), 409, "VPC.0510")
        self.refused(self.call("PUT", second, bind), 409, "VPC.0511")
        listed = self.call("GET", "publicips", query=[("port_id", self.small.port)]).body["publicips"]
        self.assertEqual([eip["private_ip_address"] for eip in listed], ["10.10.0.10"])
        self.assertEqual(self.call("PUT", first, {"publicip": {"port_id": ""}}).status, 200)

    def test_what_is_not_there_is_told_in_each_services_own_shape(self) -> None:
        third = f"/v3/{self.small.project}/vpc/vpcs/x"
        for path, code, field in (
            ("routetables/x", "VPC.2204", "code"),
            ("vpcs/x", "VPC.0003", "code"),
            (third, "VPC.0003", "error_code"),
            ("ports/x", "PortNotFound", "NeutronError"),
            ("publicips/x", "VPC.0504", "code"),
            ("cloudservers/x", "Ecs.0114", "error"),
            ("nothing", "APIGW.0101", "error_code"),
        ):
            reply = self.call("GET", path)
            self.refused(reply, 404, code)
            self.assertIn(field, reply.body)
        self.refused(self.call("GET", "/v1/another/ports"), 400, "VPC.0007")

    def test_lists_have_pages(self) -> None:
        self.cloud.admin("PATCH", "/settings", {"longest_page": 1})
        rows = self.call("GET", "routetables", query=[("limit", "2")]).body["routetables"]
        self.assertEqual([row["id"] for row in rows], sorted(self.small.tables)[:1])
        self.refused(self.call("GET", "routetables", query=[("limit", "2001")]), 400, "VPC.0002")
        self.refused(self.call("GET", "ports", query=[("limit", "many")]), 400, "VPC.0002")

    def test_a_policy_is_enforced_action_by_action(self) -> None:
        calls = {
            "vpc:ports:get": ("GET", self.port, None),
            "vpc:ports:update": ("PUT", self.port, {"port": {"allowed_address_pairs": []}}),
            "vpc:routeTables:list": ("GET", "routetables", None),
            "vpc:routeTables:get": ("GET", self.table, None),
            "vpc:routeTables:update": ("PUT", self.table, {"routetable": {"routes": {}}}),
            "vpc:vpcs:get": ("GET", f"/v3/{self.small.project}/vpc/vpcs/{self.small.vpc}", None),
            "vpc:subnets:get": ("GET", "subnets", None),
            "vpc:publicIps:list": ("GET", "publicips", None),
            "vpc:publicIps:get": ("GET", f"publicips/{self.small.eips[0]}", None),
        }
        self.assertEqual(set(calls), set(LEAST))
        for missing in LEAST:
            allowed = [action for action in LEAST if action != missing]
            statement = {"Effect": "Allow", "Action": allowed}
            self.cloud.admin("PATCH", "/settings", {"policy": {"Version": "1.1", "Statement": [statement]}})
            for action, call in calls.items():
                self.assertEqual(self.call(*call).status, 403 if action == missing else 200, (missing, action))
        self.refused(self.call("GET", f"cloudservers/{self.small.server}"), 403, "Ecs.0011")
        deny = [{"Effect": "Allow", "Action": ["vpc:*:*"]}, {"Effect": "Deny", "Action": ["vpc:ports:*"]}]
        self.cloud.admin("PATCH", "/settings", {"policy": {"Version": "1.1", "Statement": deny}})
        self.assertEqual(self.call("GET", self.table).status, 200)
        self.refused(self.call("GET", self.port), 403, "VPC.0010")

    def test_writes_are_limited_if_asked(self) -> None:
        self.cloud.admin("PATCH", "/settings", {"writes_a_minute": 2})
        statuses = [self.change().status for _ in range(3)]
        self.assertEqual(statuses, [200, 200, 429])
        throttled = self.change()
        self.refused(throttled, 429, "APIGW.0308")
        self.assertNotIn("Retry-After", throttled.headers)
        self.assertEqual(self.call("GET", self.table).status, 200)

    def test_faults_come_on_demand(self) -> None:
        def fault(kind: str, **detail: Any) -> None:
            wanted = {"action": "vpc:routeTables:update", "kind": kind, "times": 1, "detail": detail}
            self.cloud.admin("POST", "/faults", wanted)

        raw = signed(self.cloud.endpoint, "PUT", f"/v1/{self.small.project}/{self.table}",
                     body={"routetable": {"routes": {"add": [self.route()]}}})
        fault("drop-before")
        self.assertIsNone(send(self.cloud.endpoint, raw))
        fault("drop-after")
        self.assertIsNone(send(self.cloud.endpoint, raw))
        for shape, key in (("camelCase", "errorCode"), ("iam", "error"), ("escaped", "error_msg")):
            fault("refuse", status=500, code="SYS.0500", message="on demand", shape=shape)
            self.assertIn(key, self.change().body)
        # Only the second was carried out.
        self.refused(self.change(add=[self.route()]), 400, "VPC.2812")
        statuses = [call["status"] for call in self.cloud.admin("GET", "/calls")]
        self.assertEqual(statuses, [None, None, 500, 500, 500, 400])
        self.assertTrue(all(call["write"] for call in self.cloud.admin("GET", "/calls")))

    def test_some_answers_have_no_default(self) -> None:
        self.cloud.admin("PATCH", "/settings", {"default_in_tables": False})
        self.assertNotIn("default", self.call("GET", self.table).body["routetable"])


if __name__ == "__main__":
    unittest.main()
