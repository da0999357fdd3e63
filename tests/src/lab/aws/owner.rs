//! What only a test of AWS does by hand: calls of the EC2 API as the account's owner, tags, public addresses.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::super::Lab;
use super::super::build::Builder;
use super::super::cloud::CloudKind;
use super::Aws;
use super::api::Api;
use super::read::STANDS_FOR;

impl Lab {
    /// A lab of AWS, with options.
    pub fn aws() -> Builder {
        Builder::of(CloudKind::Aws)
    }

    /// The cloud.
    ///
    /// # Panics
    /// If it isn't AWS, as all that is below.
    pub fn ec2(&self) -> &Aws {
        self.cloud_of()
    }

    /// The EC2 API, as the account's owner calls it: not in [`api_log`](Self::api_log), and never faulty.
    pub fn api(&self) -> &Api {
        &self.ec2().api
    }

    /// Calls the API as its owner, and waits for the network to follow.
    pub fn owner(&self, action: &str, parameters: &[(&str, &str)]) -> Result<()> {
        self.api().call(action, parameters)?;
        self.sync()
    }

    /// Gives something a tag.
    pub fn tag(&self, id: &str, key: &str, value: &str) -> Result<()> {
        let of = [("ResourceId.1", id), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        self.owner("CreateTags", &of)
    }

    /// Has the NAT instance's public address stand for this one of its private addresses.
    pub fn associate_public_address(&self, private: Ipv4Addr) -> Result<()> {
        self.tag(&self.ec2().allocation, STANDS_FOR, &private.to_string())
    }

    /// Gives an interface of that name a further public address, which stands for this one of its private addresses.
    pub fn further_public_address(
        &self,
        public: Ipv4Addr,
        interface: &str,
        private: Ipv4Addr,
    ) -> Result<()> {
        let wanted = [("Domain", "vpc"), ("Address", &public.to_string())];
        let allocated = self.api().call("AllocateAddress", &wanted)?;
        let allocation = allocated.need("allocationId")?;
        let of = [
            ("AllocationId", allocation),
            ("NetworkInterfaceId", self.ids.interface(interface)),
            ("PrivateIpAddress", &private.to_string()),
        ];
        self.api().call("AssociateAddress", &of)?;
        self.tag(allocation, STANDS_FOR, &private.to_string())
    }

    /// The actions that the API server itself recorded, without the lab's own calls. It forgets none.
    pub fn api_recording(&self) -> Result<Vec<String>> {
        self.ec2().moto.recorded_actions()
    }
}
