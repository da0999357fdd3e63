//! Huawei Cloud: every answer of the VPC service and of IAM, errors too.

use natd_core::config;

use super::{
    HASTY, SECRET,
    drive::{drive, others_stay, told},
    secret,
    server::serve,
    shared::text,
};
use crate::huawei::{Environment, Huawei};

/// Answers, as `server` reads them. If the first is IAM's, natd asks for the project.
pub fn huawei(input: &[u8]) {
    if text(input).contains(SECRET) {
        return;
    }
    serve(input, "", true, async |server| {
        let options = config::Huawei {
            endpoint: Some(server.url.clone()),
            iam_endpoint: Some(server.url.clone()),
            metadata_endpoint: Some(server.url.clone()),
            instance_id: "server-1".parse().ok(),
            vpc_id: "vpc-1".parse().ok(),
            region: Some("eu-test-1".to_owned()),
            project_id: (!text(input).starts_with("/v3/projects")).then(|| "p1".to_owned()),
            access_key: Some("AK".to_owned()),
            secret_key: Some(secret()),
            ..config::Huawei::default()
        };
        let service = config::Service::default();
        match Huawei::connect_with(options, &service, &Environment::default(), HASTY).await {
            Ok(huawei) => drive(&huawei).await,
            Err(error) => told(&error),
        }
        others_stay(&server.exchanges(), &[("port", "allowed_address_pairs")], |pair| {
            pair.get("ip_address").and_then(|address| address.as_str()) == Some("1.1.1.1/0")
        });
    });
}
