//! The IAM actions that natd uses, each with the calls that it allows.

/// An action that a policy can allow.
///
/// See <https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_permission_0002.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Once a tick: the attached interfaces; the source/destination check, read back.
    PortsGet,
    /// Once a tick: the elastic addresses of the interfaces.
    PublicIpsList,
    /// Once a tick: all route tables of the VPC, without their routes.
    RouteTablesList,
    /// The routes of one table.
    RouteTablesGet,
    /// Once a tick: the VPC's address blocks.
    VpcsGet,
    /// If a subnet is selected that no route table names: whether it is in the VPC.
    SubnetsGet,
    /// Switches the source/destination check.
    PortsUpdate,
    /// Takes routes and gives them back.
    RouteTablesUpdate,
    /// Only where neither the configuration nor the metadata service tells the project.
    ProjectsList,
}

impl Action {
    /// Every action that natd needs on an ECS, reads first. [`Action::ProjectsList`] is left out: on
    /// an ECS the metadata service tells the project.
    pub const ALL: [Self; 8] = [
        Self::PortsGet,
        Self::PublicIpsList,
        Self::RouteTablesList,
        Self::RouteTablesGet,
        Self::VpcsGet,
        Self::SubnetsGet,
        Self::PortsUpdate,
        Self::RouteTablesUpdate,
    ];

    /// Whether it changes something.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(self, Self::PortsUpdate | Self::RouteTablesUpdate)
    }

    /// The action as a policy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PortsGet => "vpc:ports:get",
            Self::PublicIpsList => "vpc:publicIps:list",
            Self::RouteTablesList => "vpc:routeTables:list",
            Self::RouteTablesGet => "vpc:routeTables:get",
            Self::VpcsGet => "vpc:vpcs:get",
            Self::SubnetsGet => "vpc:subnets:get",
            Self::PortsUpdate => "vpc:ports:update",
            Self::RouteTablesUpdate => "vpc:routeTables:update",
            Self::ProjectsList => "iam:projects:listProjects",
        }
    }
}
