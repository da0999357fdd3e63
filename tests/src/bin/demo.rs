//! `make demo PROVIDER=aws`: hosts without a public address reach the internet through a VM that natd has just made a NAT gateway.
//!
//! It narrates what it does, and fails if anything is not as it says.

#![expect(clippy::print_stdout, reason = "it is what a demonstration is for")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natd_tests::lab::Lab;
use natd_tests::lab::build::Builder;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::host::{Dead, Host, Reach};
use natd_tests::lab::natd::{Run, binary};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::lab::topology::{INTERNET_HOST, NAT_PUBLIC, Role, interface_name};

/// How long natd may take until everybody gets through.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "it builds a network out of namespaces, which takes root: sudo make demo"
    );
    let cloud: CloudKind = std::env::args().nth(1).unwrap_or("aws".to_owned()).parse()?;
    binary()?;
    for (shape, builder) in shapes(cloud) {
        demonstrate_in(cloud, shape, builder)?;
    }
    Ok(())
}

/// The ways to be a NAT gateway there.
fn shapes(cloud: CloudKind) -> Vec<(&'static str, Builder)> {
    match cloud {
        CloudKind::Openstack => vec![
            (", two ports", Lab::of(cloud)),
            (", one port and host routes", Lab::of(cloud).host_routes()),
        ],
        CloudKind::Huawei => vec![
            (", apart from those it serves", Lab::of(cloud)),
            (", in a subnet that it serves", Lab::of(cloud).nat_in_private_subnet()),
        ],
        CloudKind::Aws | CloudKind::Plugin => vec![("", Lab::of(cloud))],
    }
}

fn demonstrate_in(cloud: CloudKind, shape: &str, builder: Builder) -> Result<()> {
    let started = Instant::now();
    let api = cloud.api();
    chapter(&format!("A small cloud ({cloud}{shape}), out of network namespaces and {api}"));
    let lab = builder.build().context("building the lab")?;
    println!("{}", drawing(&lab)?);
    println!("(built in {:.1} s)", started.elapsed().as_secs_f32());

    chapter("Before: who reaches the internet, and as which address");
    let before = State::of(&lab)?;
    ensure!(everybody(&lab).values().all(Reach::is_none), "the clients get through without natd");

    chapter("The plan");
    say("natd plan", &lab.nat().natd(["plan"])?, 0)?;
    ensure!(State::of(&lab)? == before, "natd plan changed something");
    ensure!(
        lab.api_log().iter().all(|call| !call.is_write()),
        "natd plan called the API to change something"
    );

    chapter("The run");
    run(&lab)?;

    chapter("natd has stopped, and the NAT gateway works on");
    ensure!(all_get_through(&everybody(&lab)), "the clients don't get through any more");

    chapter("Down: everything is given back");
    say("natd down", &lab.nat().natd(["down"])?, 0)?;
    lab.sync()?;
    ensure!(everybody(&lab).values().all(Reach::is_none), "the clients still get through");
    let after = State::of(&lab)?;
    if after != before {
        bail!("the state is not as it was before:\n{}", after.differences(&before));
    }
    let check = if lab.has_check()? { "source/destination check, " } else { "" };
    println!("\nRoutes, {check}sysctls and firewall rules are as they were before.");
    println!(
        "natd called {api} {} times; {:.1} s in all.",
        lab.api_log().len(),
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

/// The daemon, from its start until it has stopped.
fn run(lab: &Lab) -> Result<()> {
    println!("$ natd run");
    let mut daemon = lab.nat().daemon::<&str>([])?;
    let started = Instant::now();
    while !all_get_through(&reaches(lab)) {
        if !daemon.is_running() || started.elapsed() > PATIENCE {
            everybody(lab);
            bail!("the clients don't get through natd, which said:\n{}", daemon.lines().join("\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    // The last client's first packet may be through before natd has told of its last step.
    thread::sleep(Duration::from_millis(300));
    indented(&daemon.lines().join("\n"));

    chapter("After: who reaches the internet, and as which address");
    ensure!(all_get_through(&everybody(lab)), "not everybody gets through as {NAT_PUBLIC}");

    chapter("What natd says about itself");
    say("natd status", &lab.nat().natd(["status"])?, 0)?;
    daemon.terminate()?;
    let status = daemon.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "natd ended with {status}");
    Ok(())
}

/// The network's machines by subnet, then the tables' default routes and the checks, as the cloud tells them.
fn drawing(lab: &Lab) -> Result<String> {
    let picture = lab.cloud().picture()?;
    let networks: Vec<_> = picture.networks.iter().map(ToString::to_string).collect();
    let mut text = format!("\n  {}: {}\n\n", picture.network, networks.join(" and "));
    let interfaces: Vec<_> = lab.topology.interfaces().collect();
    for (row, (instance, number, interface)) in interfaces.iter().enumerate() {
        let wire = match row {
            0 => "┐".to_owned(),
            1 => format!("┼─ router ── gateway ── internet: {INTERNET_HOST} tells whom it saw"),
            _ if row + 1 == interfaces.len() => "┘".to_owned(),
            _ => "┤".to_owned(),
        };
        let name = interface_name(&instance.name, *number);
        let (address, subnet) = (interface.address.to_string(), interface.subnet);
        writeln!(text, "  {name:<14} {address:<14} {subnet:<12}─{wire}")?;
    }
    text.push('\n');
    for (instance, number, interface) in interfaces {
        let name = interface_name(&instance.name, number);
        if let Some(public) = interface.public {
            writeln!(text, "  {name}: the internet knows it as {public}")?;
        }
        let check = lab.cloud().check(lab.ids.interface(&name))?;
        if let (Role::Nat, Some(on)) = (instance.role, check) {
            let state = if on { "on" } else { "off" };
            writeln!(text, "  {name}: source/destination check {state}")?;
        }
    }
    for (name, id) in &lab.ids.tables {
        let default = lab.route(id, DEFAULT)?;
        let route =
            default.map_or("no default route".to_owned(), |to| format!("{DEFAULT} to {to}"));
        writeln!(text, "  table of {name}, {id}: {route}")?;
    }
    Ok(text)
}

fn reaches(lab: &Lab) -> BTreeMap<String, Reach> {
    thread::scope(|scope| {
        let probe = |client: &Host| (client.name.clone(), client.reach());
        let probes: Vec<_> =
            lab.clients().map(|client| scope.spawn(move || probe(client))).collect();
        probes.into_iter().filter_map(|probe| probe.join().ok()).collect()
    })
}

fn all_get_through(reaches: &BTreeMap<String, Reach>) -> bool {
    !reaches.is_empty() && reaches.values().all(|reach| reach.is_all(NAT_PUBLIC))
}

/// Probes everybody, and prints who gets through.
fn everybody(lab: &Lab) -> BTreeMap<String, Reach> {
    let reaches = reaches(lab);
    println!("  {:<10} {:<16} {:<16} {:<16}", "", "TCP", "UDP", "ping");
    for (client, Reach { tcp, udp, ping }) in &reaches {
        println!("  {client:<10} {} {} {}", cell(tcp), cell(udp), cell(ping));
    }
    reaches
}

fn cell(seen: &Result<Ipv4Addr, Dead>) -> String {
    match seen {
        Ok(source) => paint("32", &format!("{source:<16}", source = source.to_string())),
        Err(_) => paint("31", &format!("{:<16}", "—")),
    }
}

fn chapter(title: &str) {
    println!("\n{}", paint("1", &format!("── {title} ──")));
}

fn paint(colour: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || !std::io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}

/// Prints what a command said.
fn say(command: &str, run: &Run, wanted: i32) -> Result<()> {
    println!("$ {command}");
    indented(&run.stdout);
    indented(&run.stderr);
    ensure!(run.code == Some(wanted), "{command} ended with {:?} and not with {wanted}", run.code);
    Ok(())
}

fn indented(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}
