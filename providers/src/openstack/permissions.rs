//! What natd does on Neutron, each as an access rule of an application credential writes it.
//!
//! Rules: <https://docs.openstack.org/keystone/latest/user/application_credentials.html#access-rules>.
//! Neutron checks them against method and path of a request; where it is told no `service_type` in
//! `[keystone_authtoken]`, it refuses every request of a credential that has rules. What is refused by
//! a rule is answered with 401, as a bad token is.

/// A call of Neutron's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Once a tick and more: this server's ports, and those of routers.
    ListPorts,
    /// Before and after a port is changed; a route's target that is no port of this server.
    ShowPort,
    /// Switches the check of a port's addresses.
    UpdatePort,
    /// Each tick: public addresses. natd works without.
    ListFloatingIps,
    /// Each tick: what security groups let through. Before an address pair is set: who refers to them.
    ListSecurityGroupRules,
    /// Before security groups are given back to a port: which of them still exist.
    ListSecurityGroups,
    /// Each tick: the routers with their routes.
    ListRouters,
    /// Before a router's routes are written.
    ShowRouter,
    /// Replaces routes of a router.
    UpdateRouter,
    /// Adds a route to a router.
    AddExtraRoutes,
    /// Removes a route from a router.
    RemoveExtraRoutes,
    /// Each tick: the subnets that the routers serve.
    ListSubnets,
    /// Before a subnet's host routes are written.
    ShowSubnet,
    /// Writes host routes.
    UpdateSubnet,
    /// Once: whether routes can be added one by one.
    ListExtensions,
}

impl Action {
    /// Every call that natd may make, reads first.
    pub const ALL: [Self; 15] = [
        Self::ListExtensions,
        Self::ListPorts,
        Self::ShowPort,
        Self::ListFloatingIps,
        Self::ListSecurityGroupRules,
        Self::ListSecurityGroups,
        Self::ListRouters,
        Self::ShowRouter,
        Self::ListSubnets,
        Self::ShowSubnet,
        Self::UpdatePort,
        Self::UpdateRouter,
        Self::AddExtraRoutes,
        Self::RemoveExtraRoutes,
        Self::UpdateSubnet,
    ];

    /// The HTTP method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::UpdatePort
            | Self::UpdateRouter
            | Self::AddExtraRoutes
            | Self::RemoveExtraRoutes
            | Self::UpdateSubnet => "PUT",
            _ => "GET",
        }
    }

    /// The path, with `*` for an id.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ListPorts => "/v2.0/ports",
            Self::ShowPort | Self::UpdatePort => "/v2.0/ports/*",
            Self::ListFloatingIps => "/v2.0/floatingips",
            Self::ListSecurityGroupRules => "/v2.0/security-group-rules",
            Self::ListSecurityGroups => "/v2.0/security-groups",
            Self::ListRouters => "/v2.0/routers",
            Self::ShowRouter | Self::UpdateRouter => "/v2.0/routers/*",
            Self::AddExtraRoutes => "/v2.0/routers/*/add_extraroutes",
            Self::RemoveExtraRoutes => "/v2.0/routers/*/remove_extraroutes",
            Self::ListSubnets => "/v2.0/subnets",
            Self::ShowSubnet | Self::UpdateSubnet => "/v2.0/subnets/*",
            Self::ListExtensions => "/v2.0/extensions",
        }
    }

    /// Whether it changes something.
    #[must_use]
    pub fn changes(self) -> bool {
        self.method() != "GET"
    }

    /// The access rule that allows the call, as JSON.
    #[must_use]
    pub fn access_rule(self) -> String {
        format!(r#"{{"service":"network","method":"{}","path":"{}"}}"#, self.method(), self.path())
    }
}
