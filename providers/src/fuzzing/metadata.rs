//! The metadata services of Huawei Cloud and OpenStack: who the machine is, and its keys.

use natd_core::{cloud::Provider, config};

use super::{
    HASTY, SECRET,
    drive::told,
    server::serve,
    shared::{head, text},
};
use crate::{
    huawei::{Environment, Huawei},
    openstack,
};

/// The name of a cloud on the first line; answers follow, as `server` reads them.
pub fn metadata(input: &[u8]) {
    if text(input).contains(SECRET) {
        return;
    }
    let (cloud, _) = head(input);
    serve(input, "", false, async |server| {
        let url = Some(server.url.clone());
        let error = if cloud == b"openstack" {
            let environment = openstack::Environment {
                variables: [
                    ("OS_AUTH_URL".to_owned(), server.url.clone()),
                    ("OS_USERNAME".to_owned(), "natd".to_owned()),
                    ("OS_PASSWORD".to_owned(), SECRET.to_owned()),
                    ("OS_PROJECT_NAME".to_owned(), "lab".to_owned()),
                ]
                .into(),
                folders: Vec::new(),
            };
            let options =
                config::Openstack { metadata_endpoint: url, ..config::Openstack::default() };
            openstack::Openstack::connect_with(options, environment, HASTY).await.err()
        } else {
            let options = config::Huawei {
                endpoint: url.clone(),
                iam_endpoint: url.clone(),
                metadata_endpoint: url,
                ..config::Huawei::default()
            };
            let service = config::Service::default();
            let connected =
                Huawei::connect_with(options, &service, &Environment::default(), HASTY).await;
            match connected {
                Ok(huawei) => huawei.instance().await.err(),
                Err(error) => Some(error),
            }
        };
        error.iter().for_each(told);
    });
}
