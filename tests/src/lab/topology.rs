//! The shape of the lab's cloud: its networks, subnets and instances, before any of them exists.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ipnet::Ipv4Net;

/// The blocks of the lab's virtual network.
pub const NETWORKS: [Ipv4Net; 2] = [block(10, 10, 0, 16), block(10, 20, 0, 16)];
/// What the lab's public addresses are taken from.
pub const PUBLIC_ADDRESSES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);
/// The public address of the NAT instance, if it has one.
pub const NAT_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The host on the internet that tells who talks to it: HTTP on port 80, an echo on TCP and UDP port 7, ping.
pub const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The metadata service, as each instance sees it.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What the cloud's own servers listen on: reachable from every instance, whatever its routes and rules.
pub const SERVICES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 52), 30);
/// The cloud's API itself. Only the lab talks to it directly.
pub const API: SocketAddr = service(53);
/// The cloud's API as instances reach it: through the lab's log and its faults.
pub const ENDPOINT: SocketAddr = service(54);

const fn block(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn service(last: u8) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 5000))
}

/// What a lab is to have.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many private clients.
    pub clients: u8,
    /// The subnet of the NAT instance's first interface: `public`, or `private-a`, which it then serves from within.
    pub nat_subnet: &'static str,
    /// Whether the NAT instance has a second interface, in a subnet of its own.
    pub two_interfaces: bool,
    /// Further private addresses of its first interface.
    pub secondary: Vec<Ipv4Addr>,
    /// Whether the NAT instance has a public address.
    pub nat_public: bool,
    /// The clients with public addresses of their own: `client-b`.
    pub public_clients: BTreeSet<String>,
    /// Whether hosts learn their routes by DHCP, where the cloud has that: all clients are in `private-a` then, since
    /// the NAT instance must be their neighbour.
    pub host_routes: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            clients: 2,
            nat_subnet: "public",
            two_interfaces: false,
            secondary: Vec::new(),
            nat_public: true,
            public_clients: BTreeSet::new(),
            host_routes: false,
        }
    }
}

/// A subnet, which has a route table of the same name.
#[derive(Clone, Debug)]
pub struct Subnet {
    pub name: &'static str,
    pub block: Ipv4Net,
    /// Whether its table's default route goes to the internet gateway, where the cloud has such routes.
    pub public: bool,
}

/// What an instance is for, which decides its security group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Nat,
}

/// A virtual machine.
#[derive(Clone, Debug)]
pub struct Instance {
    pub name: String,
    pub role: Role,
    /// `eth0`, then `eth1`.
    pub interfaces: Vec<Interface>,
}

/// A network interface of an instance.
#[derive(Clone, Debug)]
pub struct Interface {
    pub subnet: &'static str,
    pub address: Ipv4Addr,
    /// Further private addresses, known to the cloud. The instance is not told.
    pub secondary: Vec<Ipv4Addr>,
    /// The public address that stands for its first private one.
    pub public: Option<Ipv4Addr>,
}

/// The whole of it.
#[derive(Clone, Debug)]
pub struct Topology {
    pub subnets: Vec<Subnet>,
    pub instances: Vec<Instance>,
    /// Whether hosts learn their routes by DHCP.
    pub host_routes: bool,
}

impl Topology {
    /// Private clients, in the two private subnets by turns, and a NAT instance.
    pub fn new(shape: &Shape) -> Self {
        let mut subnets = vec![
            Subnet { name: "public", block: block(10, 10, 1, 24), public: true },
            Subnet { name: "private-a", block: block(10, 10, 2, 24), public: false },
            Subnet { name: "private-b", block: block(10, 20, 3, 24), public: false },
        ];
        let outside = subnets.iter().find(|subnet| subnet.name == shape.nat_subnet);
        let mut interfaces = vec![Interface {
            subnet: shape.nat_subnet,
            address: nat_address(outside.map_or(block(10, 10, 1, 24), |subnet| subnet.block)),
            secondary: shape.secondary.clone(),
            public: shape.nat_public.then_some(NAT_PUBLIC),
        }];
        if shape.two_interfaces {
            let inside = Subnet { name: "nat-inside", block: block(10, 10, 4, 24), public: false };
            interfaces.push(Interface {
                subnet: inside.name,
                address: nat_address(inside.block),
                secondary: Vec::new(),
                public: None,
            });
            subnets.push(inside);
        }
        let mut instances = vec![Instance { name: "nat".to_owned(), role: Role::Nat, interfaces }];
        instances.extend((0..shape.clients).map(|number| client(number, shape)));
        Self { subnets, instances, host_routes: shape.host_routes }
    }

    /// The subnet of that name.
    pub fn subnet(&self, name: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.name == name)
    }

    /// Every interface, with its instance and its number within that instance.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Instance, usize, &Interface)> {
        let of = |instance| move |(number, interface)| (instance, number, interface);
        self.instances
            .iter()
            .flat_map(move |instance| instance.interfaces.iter().enumerate().map(of(instance)))
    }
}

/// The tenth address of a block.
fn nat_address(block: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(block.network()) + 10)
}

/// `client-a` in `private-a`, `client-b` in `private-b`, `client-c` in `private-a` again.
fn client(number: u8, shape: &Shape) -> Instance {
    let host = 101 + number / 2;
    let (subnet, address) = if shape.host_routes {
        ("private-a", Ipv4Addr::new(10, 10, 2, 101 + number))
    } else if number.is_multiple_of(2) {
        ("private-a", Ipv4Addr::new(10, 10, 2, host))
    } else {
        ("private-b", Ipv4Addr::new(10, 20, 3, host))
    };
    let name = format!("client-{}", char::from(b'a' + number % 26));
    let public = shape.public_clients.contains(&name).then(|| public_of_client(number));
    let interface = Interface { subnet, address, secondary: Vec::new(), public };
    Instance { name, role: Role::Client, interfaces: vec![interface] }
}

/// The public address that a client has if it has one: 203.0.113.101 is that of `client-a`.
pub const fn public_of_client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 101 + number)
}

/// The name that the lab gives to an interface: `nat/eth0`.
pub fn interface_name(instance: &str, number: usize) -> String {
    format!("{instance}/eth{number}")
}
