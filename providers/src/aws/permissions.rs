//! The IAM actions that natd uses, each named as the API call that it allows.

/// An action of the EC2 API that a policy can allow.
///
/// See <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Once a tick: the attached interfaces.
    DescribeNetworkInterfaces,
    /// Once a tick: what they let through. natd works without.
    DescribeSecurityGroups,
    /// Once a tick: all route tables of the VPC.
    DescribeRouteTables,
    /// Once for each subnet that is selected and that no route table is associated with.
    DescribeSubnets,
    /// Takes a destination that has no route.
    CreateRoute,
    /// Takes a destination that has a route, or gives one back.
    ReplaceRoute,
    /// Gives back a destination that had no route.
    DeleteRoute,
    /// Switches the source/destination check.
    ModifyNetworkInterfaceAttribute,
}

impl Action {
    /// Every action that natd may need, reads first.
    pub const ALL: [Self; 8] = [
        Self::DescribeNetworkInterfaces,
        Self::DescribeSecurityGroups,
        Self::DescribeRouteTables,
        Self::DescribeSubnets,
        Self::CreateRoute,
        Self::ReplaceRoute,
        Self::DeleteRoute,
        Self::ModifyNetworkInterfaceAttribute,
    ];

    /// Whether it changes something.
    #[must_use]
    pub const fn changes(self) -> bool {
        self.changes_routes() || matches!(self, Self::ModifyNetworkInterfaceAttribute)
    }

    /// Whether it changes a route.
    #[must_use]
    pub const fn changes_routes(self) -> bool {
        matches!(self, Self::CreateRoute | Self::ReplaceRoute | Self::DeleteRoute)
    }

    /// The action as a policy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DescribeNetworkInterfaces => "ec2:DescribeNetworkInterfaces",
            Self::DescribeSecurityGroups => "ec2:DescribeSecurityGroups",
            Self::DescribeRouteTables => "ec2:DescribeRouteTables",
            Self::DescribeSubnets => "ec2:DescribeSubnets",
            Self::CreateRoute => "ec2:CreateRoute",
            Self::ReplaceRoute => "ec2:ReplaceRoute",
            Self::DeleteRoute => "ec2:DeleteRoute",
            Self::ModifyNetworkInterfaceAttribute => "ec2:ModifyNetworkInterfaceAttribute",
        }
    }
}
