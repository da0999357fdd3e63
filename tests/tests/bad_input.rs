//! Input that natd can't work with gets a clear error on one screen and an exit code to decide by, and changes nothing.
//! What can be served beside it is.

use anyhow::{Result, ensure};
use natd_tests::expect::{self, natd, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::aws::{REGION, ZONE};
use natd_tests::lab::calls::Fault;
use natd_tests::lab::natd::{Run, run};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::lab::topology::NAT_PUBLIC;

/// Lines that a terminal shows at once.
const SCREEN: usize = 24;

/// Whether the run said all of that, and no more than a screen in all.
fn says(run: &Run, words: &[&str]) -> Result<()> {
    expect::says(run, words)?;
    let said = format!("{}{}", run.stdout, run.stderr);
    ensure!(said.lines().count() <= SCREEN, "more than a screen:\n{said}");
    Ok(())
}

/// The lab before natd's first run, which is to stay so.
struct Untouched {
    lab: Lab,
    before: State,
}

impl Untouched {
    fn new(lab: Lab) -> Result<Self> {
        let before = State::of(&lab)?;
        Ok(Self { lab, before })
    }

    /// `apply` with this configuration behind the lab's own ends with that code and those words, and changes nothing.
    fn refuses(&self, code: i32, configuration: &str, words: &[&str]) -> Result<()> {
        self.lab.nat().write("etc/natd/conf.d/10-test.toml", configuration)?;
        let run = natd(&self.lab, code, &["apply"])?;
        says(&run, words)?;
        self.holds()
    }

    fn holds(&self) -> Result<()> {
        ensure!(writes(&self.lab).is_empty(), "{:?}", writes(&self.lab));
        let now = State::of(&self.lab)?;
        ensure!(now == self.before, "{}", now.differences(&self.before));
        ensure!(self.lab.nat().read("var/lib/natd/journal.json").is_none(), "there is a journal");
        Ok(())
    }
}

fn tables(ids: &[&str]) -> String {
    format!("[routes]\ntables = {ids:?}\n")
}

#[test]
fn what_contradicts_the_host_is_a_configuration_error() -> Result<()> {
    let untouched = Untouched::new(Lab::aws().build()?)?;
    for (configuration, words) in [
        (
            "[nat]\naddresses = [\"10.10.1.99\"]\n",
            &[
                "could not translate to 10.10.1.99",
                "eth0 doesn't have that address; it has 10.10.1.10;",
                "nat.addresses",
            ][..],
        ),
        (
            "[[nat.forward]]\nprotocol = \"tcp\"\nport = 8443\nto = \"192.0.2.1:443\"\n",
            &[
                "could not forward tcp 8443 to 192.0.2.1:443: 192.0.2.1 is none of nat.sources",
                "or add it to nat.sources",
            ],
        ),
        (
            "[nat]\ninterface = \"eth7\"\n",
            &["could not use the interface eth7", "nat.interface can be one of: ", "eth0"],
        ),
        (
            "[routes]\ninterface = \"eth7\"\n",
            &["could not use the interface eth7", "routes.interface can be one of: "],
        ),
        (
            "[nat]\ninterface = \"lo\"\n",
            &["could not find the cloud's side of lo", "nat.interface"],
        ),
        (
            "provider = \"none\"\n",
            &["nat.sources: has \"vpc\"", "there is no cloud to ask; write CIDRs"],
        ),
        (
            "[nat]\nsorces = [\"vpc\"]\n",
            &["conf.d/10-test.toml: nat.sorces: ", "did you mean \"sources\"?"],
        ),
        (
            "provider = \"huawei\"\n[huawei]\naccess_key = \"key\"\n",
            &["huawei.access_key: goes with huawei.secret_key", "give both, or neither"],
        ),
    ] {
        untouched.refuses(64, configuration, words)?;
    }
    let run = natd(&untouched.lab, 64, &["apply", "--provider", "azure"])?;
    says(&run, &["command line: provider: unknown value \"azure\""])?;
    untouched.holds()
}

#[test]
fn a_table_that_is_not_there_keeps_no_other_from_being_served() -> Result<()> {
    let lab = Lab::aws().build()?;
    let vpc = lab.api().call("CreateVpc", &[("CidrBlock", "10.99.0.0/16")])?;
    let vpc = vpc.find("vpcId").map(|id| id.text.clone()).unwrap_or_default();
    let other = lab.api().call("CreateRouteTable", &[("VpcId", &vpc)])?;
    let other = other.find("routeTableId").map(|id| id.text.clone()).unwrap_or_default();
    let (missing, served) = ("rtb-0123456789abcdef0", lab.ids.table("private-a").to_owned());
    let untouched = Untouched::new(lab)?;

    let nothing = [missing, "does not exist"];
    untouched.refuses(1, &tables(&[missing]), &nothing)?;
    untouched.refuses(1, &tables(&[&other]), &[&other, &vpc])?;
    untouched.refuses(1, "[routes]\ntables = { tag = \"natd=nobody\" }\n", &["natd=nobody"])?;

    let lab = untouched.lab;
    lab.nat().write("etc/natd/conf.d/10-test.toml", &tables(&[missing, &other, &served]))?;
    let run = natd(&lab, 4, &["apply"])?;
    says(&run, &[missing, &other, "NAT works in part"])?;
    ensure!(lab.client("client-a").tcp() == Ok(NAT_PUBLIC), "{:?}", lab.client("client-a").tcp());
    ensure!(lab.route(&other, DEFAULT)?.is_none());
    Ok(())
}

#[test]
fn the_egress_interfaces_own_subnet_is_refused() -> Result<()> {
    let untouched = Untouched::new(Lab::aws().build()?)?;
    let ids = &untouched.lab.ids;
    let (public, private) = (ids.table("public").to_owned(), ids.table("private-a").to_owned());
    let words = [
        &public,
        ids.subnet("public"),
        ids.interface("nat/eth0"),
        "a subnet and a route table of their own",
    ];
    untouched.refuses(3, &tables(&[&public]), &words)?;
    says(&natd(&untouched.lab, 3, &["plan"])?, &words)?;

    // No word of the operator's makes it right; the other table has no part in it.
    let lab = &untouched.lab;
    lab.nat().write("etc/natd/conf.d/10-test.toml", &tables(&[&public, &private]))?;
    says(&natd(lab, 4, &["apply"])?, &words)?;
    ensure!(lab.route(&public, DEFAULT)?.as_ref() == Some(&ids.elsewhere));
    ensure!(lab.client("client-a").tcp() == Ok(NAT_PUBLIC), "{:?}", lab.client("client-a").tcp());
    Ok(())
}

#[test]
fn without_a_metadata_service_the_values_can_be_set_by_hand() -> Result<()> {
    let mut lab = Lab::aws().build()?;
    lab.stop_metadata();
    let untouched = Untouched::new(lab)?;
    let keys = ["aws.instance_id", "aws.region", "aws.vpc_id", "aws.vpc_cidrs"];
    untouched.refuses(1, "", &[&["metadata service"][..], &keys].concat())?;

    let lab = untouched.lab;
    let by_hand = format!(
        "[aws]\nregion = {REGION:?}\navailability_zone = {ZONE:?}\ninstance_id = {:?}\nvpc_id = {:?}\n\
         vpc_cidrs = [\"10.10.0.0/16\", \"10.20.0.0/16\"]\n",
        lab.ids.instance("nat"),
        lab.ids.network
    );
    lab.nat().write("etc/natd/conf.d/10-test.toml", &by_hand)?;
    // The role's credentials came from the metadata service, too.
    says(&natd(&lab, 1, &["apply"])?, &["no credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"])?;
    let mut command = lab.nat().command(["apply"])?;
    command.env("AWS_ACCESS_KEY_ID", "AKIDLAB").env("AWS_SECRET_ACCESS_KEY", "lab");
    let applied = run(command)?;
    ensure!(applied.code == Some(0), "{applied:#?}");
    lab.sync()?;
    for client in lab.clients() {
        ensure!(client.tcp() == Ok(NAT_PUBLIC), "{}: {:?}", client.name, client.tcp());
    }
    Ok(())
}

#[test]
fn who_may_not_change_the_network_is_told_to_be_root() -> Result<()> {
    let untouched = Untouched::new(Lab::aws().build()?)?;
    let root_without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    // It may read everything, wherever the repository is.
    let nobody =
        ["setpriv", "--reuid=65534", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"];
    for wrapper in [&root_without[..], &nobody] {
        for command in ["apply", "plan", "down", "status"] {
            let run = run(untouched.lab.nat().command_under(wrapper, [command])?)?;
            ensure!(run.code == Some(1), "{run:#?}");
            says(&run, &["CAP_NET_ADMIN is missing", "run natd as root"])?;
        }
    }
    untouched.holds()
}

#[test]
fn a_missing_program_names_its_package() -> Result<()> {
    let untouched = Untouched::new(Lab::aws().build()?)?;
    let nat = untouched.lab.nat();
    for (firewall, words) in [
        ("nftables", &["the program nft is not on this host", "install the package nftables"][..]),
        ("iptables", &["is not on this host", "install the package iptables"]),
        (
            "auto",
            &[
                "neither nft nor iptables is on this host",
                "install the package nftables or the package iptables",
            ],
        ),
    ] {
        nat.write("etc/natd/conf.d/10-test.toml", &format!("[nat]\nfirewall = {firewall:?}\n"))?;
        let run = run(nat.command_under(&["env", "PATH=/nonexistent"], ["apply"])?)?;
        ensure!(run.code == Some(1), "{run:#?}");
        says(&run, words)?;
        untouched.holds()?;
    }
    Ok(())
}

#[test]
fn a_denied_call_names_the_action_that_is_missing() -> Result<()> {
    let untouched = Untouched::new(Lab::aws().build()?)?;
    let denied = |action| untouched.lab.fail(action, Fault::denied(), usize::MAX);
    for action in ["DescribeNetworkInterfaces", "DescribeRouteTables"] {
        denied(action);
        let iam = format!("ec2:{action}");
        untouched.refuses(1, "", &["UnauthorizedOperation", &format!("allow {iam}")])?;
        says(&natd(&untouched.lab, 1, &["plan"])?, &[&iam])?;
        untouched.lab.heal();
    }
    denied("DescribeSubnets");
    let by_subnet = format!(
        "[routes]\ntables = {{ subnets = [{:?}] }}\n",
        unassociated_subnet(&untouched.lab)?
    );
    untouched.refuses(1, &by_subnet, &["allow ec2:DescribeSubnets"])?;
    untouched.lab.heal();

    let Untouched { lab, before } = untouched;
    lab.nat().write("etc/natd/conf.d/10-test.toml", "")?;
    lab.point_route(lab.ids.table("private-a"), DEFAULT, lab.ids.interface("client-b/eth0"))?;
    for (action, code) in
        [("ModifyNetworkInterfaceAttribute", 1), ("CreateRoute", 4), ("ReplaceRoute", 4)]
    {
        lab.fail(action, Fault::denied(), usize::MAX);
        says(&natd(&lab, code, &["apply"])?, &[&format!("allow ec2:{action}")])?;
        lab.heal();
        natd(&lab, 0, &["down"])?;
    }
    lab.remove_route(lab.ids.table("private-a"), DEFAULT)?;
    let now = State::of(&lab)?;
    ensure!(now == before, "{}", now.differences(&before));
    Ok(())
}

/// Which is served by the VPC's main table.
fn unassociated_subnet(lab: &Lab) -> Result<String> {
    let of = [
        ("VpcId", lab.ids.network.as_str()),
        ("CidrBlock", "10.10.7.0/24"),
        ("AvailabilityZone", ZONE),
    ];
    let made = lab.api().call("CreateSubnet", &of)?;
    Ok(made.find("subnetId").map(|id| id.text.clone()).unwrap_or_default())
}

/// natd works without knowing the security groups.
#[test]
fn what_natd_can_do_without_is_no_error() -> Result<()> {
    let lab = Lab::aws().build()?;
    lab.fail("DescribeSecurityGroups", Fault::denied(), usize::MAX);
    says(&natd(&lab, 0, &["apply"])?, &["NAT works"])?;
    ensure!(lab.client("client-a").tcp() == Ok(NAT_PUBLIC));
    Ok(())
}
