//! Which VPC a subnet is in: asked once a subnet, since it never changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use natd_core::{
    error::{Kind, Result},
    model::{NetworkId, SubnetId},
};
use serde::Deserialize;

use super::{
    api::{Api, Call},
    permissions::Action,
};

/// The subnets that have been seen so far.
#[derive(Default)]
pub(super) struct Subnets(Mutex<BTreeMap<SubnetId, NetworkId>>);

#[derive(Deserialize)]
struct OneSubnet {
    subnet: Subnet,
}

#[derive(Deserialize)]
struct Subnet {
    vpc_id: NetworkId,
}

impl Subnets {
    /// Takes note of the subnets of the ECS's own interfaces, which are all in one VPC.
    pub(super) fn learn(&self, own: &BTreeSet<SubnetId>, network: &NetworkId) {
        self.seen().extend(own.iter().map(|subnet| (subnet.clone(), network.clone())));
    }

    /// The VPC of a subnet; `None` if there is no such subnet.
    pub(super) async fn network(&self, api: &Api, id: &SubnetId) -> Result<Option<NetworkId>> {
        if let Some(network) = self.seen().get(id) {
            return Ok(Some(network.clone()));
        }
        let path = ["subnets", id.as_str()];
        let call = Call::v1(Action::SubnetsGet, format!("find the VPC of {id}"), &path);
        match api.read::<OneSubnet>(call).await {
            Ok(OneSubnet { subnet }) => {
                self.seen().insert(id.clone(), subnet.vpc_id.clone());
                Ok(Some(subnet.vpc_id))
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<SubnetId, NetworkId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
