//! The shape of the lab's cloud: its networks, subnets and instances, before any of them exists.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ipnet::Ipv4Net;

/// The blocks of the lab's virtual network.
pub const NETWORKS: [Ipv4Net; 2] = [block(10, 10, 0, 16), block(10, 20, 0, 16)];
/// What the lab's public addresses are taken from.
pub const PUBLIC_ADDRESSES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);
/// The public address of the NAT instance.
pub const NAT_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The host on the internet that tells who talks to it: HTTP on port 80, an echo on TCP and UDP port 7, ping.
pub const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The metadata service, as each instance sees it.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What the cloud's own services listen on: reachable from every instance, whatever its routes and rules.
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

/// A subnet, which has a route table of the same name.
#[derive(Clone, Debug)]
pub struct Subnet {
    pub name: &'static str,
    pub block: Ipv4Net,
    /// Whether its table's default route goes to the internet gateway.
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
}

/// The whole of it.
#[derive(Clone, Debug)]
pub struct Topology {
    pub subnets: Vec<Subnet>,
    pub instances: Vec<Instance>,
}

impl Topology {
    /// `clients` private clients, in the two private subnets by turns, and a NAT instance in the public subnet.
    pub fn new(clients: u8, two_interfaces: bool, secondary: &[Ipv4Addr]) -> Self {
        let mut subnets = vec![
            Subnet { name: "public", block: block(10, 10, 1, 24), public: true },
            Subnet { name: "private-a", block: block(10, 10, 2, 24), public: false },
            Subnet { name: "private-b", block: block(10, 20, 3, 24), public: false },
        ];
        let outside = Ipv4Addr::new(10, 10, 1, 10);
        let mut interfaces =
            vec![Interface { subnet: "public", address: outside, secondary: secondary.to_vec() }];
        if two_interfaces {
            subnets.push(Subnet { name: "nat-inside", block: block(10, 10, 4, 24), public: false });
            let inside = Ipv4Addr::new(10, 10, 4, 10);
            interfaces.push(Interface {
                subnet: "nat-inside",
                address: inside,
                secondary: Vec::new(),
            });
        }
        let mut instances = vec![Instance { name: "nat".to_owned(), role: Role::Nat, interfaces }];
        instances.extend((0..clients).map(client));
        Self { subnets, instances }
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

/// `client-a` in `private-a`, `client-b` in `private-b`, `client-c` in `private-a` again.
fn client(number: u8) -> Instance {
    let host = 101 + number / 2;
    let (subnet, address) = if number.is_multiple_of(2) {
        ("private-a", Ipv4Addr::new(10, 10, 2, host))
    } else {
        ("private-b", Ipv4Addr::new(10, 20, 3, host))
    };
    let letter = char::from(b'a' + number % 26);
    Instance {
        name: format!("client-{letter}"),
        role: Role::Client,
        interfaces: vec![Interface { subnet, address, secondary: Vec::new() }],
    }
}

/// The name that the lab gives to an interface: `nat/eth0`.
pub fn interface_name(instance: &str, number: usize) -> String {
    format!("{instance}/eth{number}")
}
