"""The official SDK's client is served: so the stand-in is no mirror image of natd."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkvpc.v2 import (
    AddRouteTableRoute,
    AllowedAddressPair,
    CreatePortOption,
    CreatePortRequest,
    CreatePortRequestBody,
    DelRouteTableRoute,
    ListPortsRequest,
    ListRouteTablesRequest,
    ListSubnetsRequest,
    ListVpcsRequest,
    ModRouteTableRoute,
    RouteTableRouteAction,
    ShowPortRequest,
    ShowRouteTableRequest,
    ShowVpcRequest,
    UpdatePortOption,
    UpdatePortRequest,
    UpdatePortRequestBody,
    UpdateRouteTableReq,
    UpdateRouteTableRequest,
    UpdateRoutetableReqBody,
    VpcClient,
)
from huaweicloudsdkvpc.v3 import ShowVpcRequest as ShowVpcRequestV3
from huaweicloudsdkvpc.v3 import VpcClient as VpcClientV3

from cloud import ACCESS, SECRET, Cloud, Small

DEFAULT = "0.0.0.0/0"


class OfficialClient(unittest.TestCase):
    """Each test has a cloud of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cloud = Cloud(Path(folder.name) / "state.json")
        self.addCleanup(self.cloud.stop)
        self.small = Small()
        self.cloud.admin("PUT", "/state", self.small.dump)
        # The client would look for proxies.
        no_proxy = mock.patch.dict(os.environ, {"NO_PROXY": "127.0.0.1"})
        no_proxy.start()
        self.addCleanup(no_proxy.stop)
        self.client = self.build(VpcClient)

    def build(self, kind: type, credentials: BasicCredentials | None = None):  # type: ignore[no-untyped-def]
        """A client with the owner's keys, unless told otherwise."""
        credentials = credentials or BasicCredentials(ACCESS, SECRET, self.small.project)
        config = HttpConfig.get_default_config()
        return (
            kind.new_builder()  # type: ignore[attr-defined]
            .with_http_config(config)
            .with_credentials(credentials)
            .with_endpoint(f"http://{self.cloud.endpoint}")
            .build()
        )

    def change(self, **changes: list) -> None:  # type: ignore[type-arg]
        """Changes the routes of the first table."""
        body = UpdateRoutetableReqBody(UpdateRouteTableReq(routes=RouteTableRouteAction(**changes)))
        request = UpdateRouteTableRequest(routetable_id=self.small.tables[0], body=body)
        self.client.update_route_table(request)

    def routes(self) -> list[tuple[str, str, str]]:
        """The routes of the first table, as the client reads them."""
        table = self.client.show_route_table(ShowRouteTableRequest(self.small.tables[0])).routetable
        return [(route.type, route.destination, route.nexthop) for route in table.routes]

    def test_routes_are_added_changed_and_removed(self) -> None:
        local = [("local", "10.10.0.0/24", "-"), ("local", "10.10.1.0/24", "-")]
        self.assertEqual(self.routes(), local)
        self.change(add=[AddRouteTableRoute("ecs", DEFAULT, self.small.server, "natd")])
        self.assertEqual(self.routes(), local + [("ecs", DEFAULT, self.small.server)])
        self.change(mod=[ModRouteTableRoute("peering", DEFAULT, self.small.peering)])
        self.assertEqual(self.routes(), local + [("peering", DEFAULT, self.small.peering)])
        self.change(_del=[DelRouteTableRoute(destination=DEFAULT)])
        self.assertEqual(self.routes(), local)

    def test_tables_are_listed_a_page_at_a_time_and_without_routes(self) -> None:
        seen, marker = [], None
        while True:
            rows = self.client.list_route_tables(ListRouteTablesRequest(limit=2, marker=marker)).routetables
            if not rows:
                break
            self.assertLessEqual(len(rows), 2)
            self.assertNotIn("routes", [name for row in rows for name in row.to_dict()])
            seen += [row.id for row in rows]
            marker = rows[-1].id
        self.assertEqual(seen, sorted(self.small.tables))
        of_subnet = self.client.list_route_tables(ListRouteTablesRequest(subnet_id=self.small.subnets[1])).routetables
        self.assertEqual([row.id for row in of_subnet], [self.small.tables[1]])

    def test_address_pairs_are_replaced(self) -> None:
        pairs = [AllowedAddressPair("10.99.0.0/24"), AllowedAddressPair("1.1.1.1/0")]
        body = UpdatePortRequestBody(UpdatePortOption(allowed_address_pairs=pairs))
        self.client.update_port(UpdatePortRequest(self.small.port, body))
        port = self.client.show_port(ShowPortRequest(self.small.port)).port
        self.assertEqual([pair.ip_address for pair in port.allowed_address_pairs], ["10.99.0.0/24", "1.1.1.1/0"])
        self.assertEqual(port.device_id, self.small.server)
        listed = self.client.list_ports(ListPortsRequest(device_id=self.small.server)).ports
        self.assertEqual([row.id for row in listed], [self.small.port])
        self.assertEqual(self.client.list_ports(ListPortsRequest(device_id="nobody")).ports, [])

    def test_a_virtual_address_can_be_a_next_hop(self) -> None:
        option = CreatePortOption(network_id=self.small.subnets[0], device_owner="neutron:VIP_PORT")
        port = self.client.create_port(CreatePortRequest(CreatePortRequestBody(option))).port
        address = port.fixed_ips[0].ip_address
        self.change(add=[AddRouteTableRoute("vip", DEFAULT, address)])
        self.assertIn(("vip", DEFAULT, address), self.routes())

    def test_networks(self) -> None:
        vpc = self.client.show_vpc(ShowVpcRequest(self.small.vpc)).vpc
        self.assertEqual((vpc.cidr, vpc.status), ("10.10.0.0/16", "OK"))
        self.assertEqual(len(self.client.list_vpcs(ListVpcsRequest()).vpcs), 1)
        subnets = self.client.list_subnets(ListSubnetsRequest(vpc_id=self.small.vpc)).subnets
        self.assertEqual({subnet.id for subnet in subnets}, set(self.small.subnets))
        third = self.build(VpcClientV3).show_vpc(ShowVpcRequestV3(self.small.vpc)).vpc
        self.assertEqual((third.cidr, third.extend_cidrs), ("10.10.0.0/16", ["10.20.0.0/16"]))

    def test_the_project_is_found_by_the_regions_name(self) -> None:
        from huaweicloudsdkcore.region.region import Region

        credentials = BasicCredentials(ACCESS, SECRET).with_iam_endpoint(f"http://{self.cloud.endpoint}")
        client = (
            VpcClient.new_builder()
            .with_credentials(credentials)
            .with_region(Region(self.small.region, f"http://{self.cloud.endpoint}"))
            .build()
        )
        self.assertEqual(len(client.list_vpcs(ListVpcsRequest()).vpcs), 1)

    def test_temporary_keys_rotate(self) -> None:
        def credentials() -> BasicCredentials:
            kept = self.cloud.admin("GET", f"/securitykey/{self.small.server}")["credential"]
            made = BasicCredentials(kept["access"], kept["secret"], self.small.project)
            return made.with_security_token(kept["securitytoken"])

        old = self.build(VpcClient, credentials())
        old.list_vpcs(ListVpcsRequest())
        self.cloud.admin("POST", f"/securitykey/{self.small.server}", {})
        with self.assertRaises(ClientRequestException) as refused:
            old.list_vpcs(ListVpcsRequest())
        self.assertEqual((refused.exception.status_code, refused.exception.error_code), (401, "APIGW.0301"))
        self.build(VpcClient, credentials()).list_vpcs(ListVpcsRequest())

    def test_refusals_are_read_with_code_and_request_id(self) -> None:
        with self.assertRaises(ClientRequestException) as refused:
            self.client.show_route_table(ShowRouteTableRequest("nothing"))
        self.assertEqual((refused.exception.status_code, refused.exception.error_code), (404, "VPC.2204"))
        self.assertTrue(refused.exception.request_id)
        self.cloud.admin("PATCH", "/settings", {"policy": {"Version": "1.1", "Statement": []}})
        with self.assertRaises(ClientRequestException) as refused:
            self.client.show_route_table(ShowRouteTableRequest(self.small.tables[0]))
        self.assertEqual((refused.exception.status_code, refused.exception.error_code), (403, "VPC.2201"))

    def test_the_state_outlives_a_restart(self) -> None:
        self.change(add=[AddRouteTableRoute("ecs", DEFAULT, self.small.server)])
        self.cloud.stop()
        self.cloud.start()
        self.client = self.build(VpcClient)
        self.assertIn(("ecs", DEFAULT, self.small.server), self.routes())


if __name__ == "__main__":
    unittest.main()
