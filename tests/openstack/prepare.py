#!/usr/bin/env python3
"""Makes the files that a fresh Keystone and Neutron start from, in the folder that it is run in.

    prepare.py

The folder holds `keystone.conf` already; what is made is the same for every lab, so that it is made once
a machine: databases with their tables, keys, the accounts `admin` and `natd`, and the catalogue. The ids
of natd's project and user go to `accounts.json`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

ADMIN_PASSWORD = "of-the-lab"
NATD_PASSWORD = "of-natd"
REGION = "RegionOne"
# The servers themselves, and the front through which instances reach them.
SERVERS = "192.0.2.53"
FRONT = "192.0.2.54"


def keystone_manage(*arguments: str) -> None:
    """Runs Keystone's own tool."""
    tool = pathlib.Path(sys.executable).with_name("keystone-manage")
    subprocess.run(
        [tool, "--config-file", "keystone.conf", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def make_keystone() -> None:
    """Tables, keys, the account of the administrator."""
    keystone_manage("db_sync")
    for kind in ("fernet", "credential"):
        os.mkdir(kind, 0o700)
        keystone_manage(f"{kind}_setup", "--keystone-user", "root", "--keystone-group", "root")
    keystone_manage(
        "bootstrap",
        "--bootstrap-password",
        ADMIN_PASSWORD,
        "--bootstrap-region-id",
        REGION,
        "--bootstrap-public-url",
        f"http://{FRONT}:5000/v3",
        "--bootstrap-internal-url",
        f"http://{SERVERS}:5000/v3",
    )


def make_neutron() -> None:
    """Tables, from the models, and the rules that new security groups get: Neutron's migrations don't know SQLite."""
    import sqlalchemy.orm
    from neutron.db.migration.models import head  # noqa: F401  (knows all models)
    from neutron.db.models.securitygroup_default_rules import SecurityGroupDefaultRule
    from neutron_lib.db import model_base

    engine = sqlalchemy.create_engine("sqlite:///neutron.db")
    model_base.BASEV2.metadata.create_all(engine)
    with sqlalchemy.orm.Session(engine) as session:
        for ethertype in ("IPv4", "IPv6"):
            everything_out = SecurityGroupDefaultRule(
                direction="egress",
                ethertype=ethertype,
                used_in_default_sg=True,
                used_in_non_default_sg=True,
            )
            its_members_in = SecurityGroupDefaultRule(
                direction="ingress",
                ethertype=ethertype,
                remote_group_id="PARENT",
                used_in_default_sg=True,
                used_in_non_default_sg=False,
            )
            session.add_all([everything_out, its_members_in])
        session.commit()
    paste = pathlib.Path(sys.prefix) / "etc/neutron/api-paste.ini"
    shutil.copy(paste, "api-paste.ini")
    os.mkdir("state")
    os.mkdir("lock")


class Keystone:
    """Keystone's API, without a server in between."""

    def __init__(self) -> None:
        os.environ["OS_KEYSTONE_CONFIG_FILES"] = os.path.abspath("keystone.conf")
        from keystone.wsgi.api import application

        self.application = application
        self.token = ""
        user = {"name": "admin", "domain": {"id": "default"}, "password": ADMIN_PASSWORD}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        response = self.send("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        self.token = response.headers["X-Subject-Token"]

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """One call; an answer that isn't a success ends the program."""
        import webob

        request = webob.Request.blank(f"/v3{path}", method=method)
        request.headers["X-Auth-Token"] = self.token
        if body is not None:
            request.content_type = "application/json"
            request.body = json.dumps(body).encode()
        response = request.get_response(self.application)
        if response.status_code >= 300:
            sys.exit(f"{method} {path}: {response.status} {response.text}")
        return response

    def make(self, kind: str, **fields: Any) -> str:
        """Makes one of that kind, and gives its id."""
        return self.send("POST", f"/{kind}s", {kind: fields}).json[kind]["id"]


def make_accounts() -> None:
    """The catalogue's entries of Neutron, and a project with natd's user."""
    keystone = Keystone()
    service = keystone.make("service", type="network", name="neutron")
    for interface, host in (("public", FRONT), ("internal", SERVERS)):
        keystone.make(
            "endpoint",
            interface=interface,
            region_id=REGION,
            service_id=service,
            url=f"http://{host}:9696",
        )
    project = keystone.make("project", name="natd", domain_id="default")
    user = keystone.make(
        "user", name="natd", domain_id="default", password=NATD_PASSWORD, default_project_id=project
    )
    roles = keystone.send("GET", "/roles?name=member").json["roles"]
    keystone.send("PUT", f"/projects/{project}/users/{user}/roles/{roles[0]['id']}")
    pathlib.Path("accounts.json").write_text(json.dumps({"project": project, "user": user}))


def main() -> None:
    make_keystone()
    make_neutron()
    make_accounts()


if __name__ == "__main__":
    main()
