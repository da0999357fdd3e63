//! Which server this is: asked of the metadata service, or given by hand.

use std::future::Future;

use natd_core::{
    config,
    error::{Error, Kind, Result},
    model::{InstanceId, InterfaceId},
};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;
use tokio::join;

use crate::{
    http::{Http, patiently},
    metadata::{self, MetaData, NetworkData},
    patience::Patience,
};

const BY_HAND: &str = "set openstack.instance_id by hand (the server's id)";

/// What doesn't change while the server runs.
pub(super) struct Identity {
    pub(super) instance: InstanceId,
    /// Empty where the metadata service is not asked or doesn't say.
    pub(super) zone: String,
    /// The ports that the server started with, in its own order: the first is the primary one.
    order: Vec<String>,
}

impl Identity {
    /// Asks nothing if the server is given.
    pub(super) async fn learn(options: &config::Openstack, patience: Patience) -> Result<Self> {
        if let Some(instance) = &options.instance_id {
            return Ok(Self { instance: instance.clone(), zone: String::new(), order: Vec::new() });
        }
        let base = options.metadata_endpoint.as_deref().unwrap_or(metadata::ADDRESS);
        let http = Http::neighbour(patience)?;
        let (told, network) = in_time(patience, async {
            join!(
                get::<MetaData>(&http, base, metadata::META_DATA),
                get::<NetworkData>(&http, base, metadata::NETWORK_DATA),
            )
        })
        .await?;
        let told = told?;
        let instance = told.uuid.parse().map_err(|error| {
            Error::new(Kind::Invalid, "read uuid from the metadata service", error)
                .with_advice(BY_HAND)
        })?;
        // It gives an order and nothing else: natd works without.
        let links = network.map(|network| network.links).unwrap_or_default();
        Ok(Self {
            instance,
            zone: told.availability_zone.unwrap_or_default(),
            order: links.into_iter().map(|link| link.vif_id).collect(),
        })
    }

    /// Where a port stands among the server's: those that were added later come last.
    pub(super) fn place(&self, port: &InterfaceId) -> usize {
        self.order.iter().position(|id| id == port.as_str()).unwrap_or(usize::MAX)
    }
}

async fn in_time<T>(patience: Patience, asking: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(patience.metadata, asking).await.map_err(|_| {
        let cause = "it did not answer in time";
        Error::new(Kind::Unreachable, "ask the metadata service", cause).with_advice(BY_HAND)
    })
}

async fn get<T: DeserializeOwned>(http: &Http, base: &str, path: &str) -> Result<T> {
    let doing = format!("read {path} from the metadata service");
    let url = Url::parse(&format!("{}{path}", base.trim_end_matches('/'))).map_err(|_| {
        let cause = format!("openstack.metadata_endpoint {base:?} is not a URL");
        Error::new(Kind::Invalid, doing.clone(), cause)
            .with_advice("write http://HOST[:PORT] there")
    })?;
    patiently(&http.patience, || async {
        let answer = http
            .send(&doing, Request::new(Method::GET, url.clone()))
            .await
            .map_err(|error| error.with_advice(BY_HAND))?;
        let failed = |kind| {
            let cause = format!("it answered HTTP {}", answer.status.as_u16());
            Error::new(kind, doing.clone(), cause).with_advice(BY_HAND)
        };
        match answer.status.as_u16() {
            200 => serde_json::from_slice(&answer.body).map_err(|error| {
                Error::new(Kind::Invalid, doing.clone(), error).with_advice(BY_HAND)
            }),
            404 => Err(failed(Kind::NotFound)),
            429 => Err(failed(Kind::Throttled)),
            500.. => Err(failed(Kind::Unreachable)),
            _ => Err(failed(Kind::Invalid)),
        }
    })
    .await
}
