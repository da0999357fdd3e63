//! Which VPC a subnet is in: asked once a subnet, since it never changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use natd_core::{
    error::Result,
    model::{NetworkId, SubnetId},
};

use super::{
    api::{Api, filter},
    permissions::Action,
};

/// The subnets that have been seen so far.
#[derive(Default)]
pub(super) struct Subnets(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    networks: BTreeMap<SubnetId, NetworkId>,
    own: Option<BTreeSet<SubnetId>>,
}

impl Subnets {
    /// Takes note of what another answer has told.
    pub(super) fn learn(&self, subnet: SubnetId, network: NetworkId) {
        self.seen().networks.insert(subnet, network);
    }

    /// Takes note of the subnets of the instance's interfaces in `network`.
    pub(super) fn learn_own(&self, own: BTreeSet<SubnetId>, network: &NetworkId) {
        let mut seen = self.seen();
        seen.networks.extend(own.iter().map(|subnet| (subnet.clone(), network.clone())));
        seen.own = Some(own);
    }

    /// The instance's own subnets as they were last told; `None` if they never were.
    pub(super) fn own(&self) -> Option<BTreeSet<SubnetId>> {
        self.seen().own.clone()
    }

    /// The VPCs of those of the `wanted` subnets that exist. Costs a call only if one is unknown.
    pub(super) async fn networks(
        &self,
        api: &Api,
        wanted: &BTreeSet<SubnetId>,
    ) -> Result<BTreeMap<SubnetId, NetworkId>> {
        let unknown: Vec<SubnetId> = {
            let known = &self.seen().networks;
            wanted.iter().filter(|id| !known.contains_key(id)).cloned().collect()
        };
        if !unknown.is_empty() {
            let listed = api
                .ec2()
                .describe_subnets()
                .filters(filter("subnet-id", unknown))
                .into_paginator()
                .items()
                .send()
                .try_collect()
                .await
                .map_err(|error| api.failure(Action::DescribeSubnets, "find subnets", &error))?;
            for subnet in &listed {
                let id = subnet.subnet_id().and_then(|id| id.parse().ok());
                let network = subnet.vpc_id().and_then(|id| id.parse().ok());
                if let (Some(id), Some(network)) = (id, network) {
                    self.learn(id, network);
                }
            }
        }
        let known = &self.seen().networks;
        Ok(wanted.iter().filter_map(|id| Some((id.clone(), known.get(id)?.clone()))).collect())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
