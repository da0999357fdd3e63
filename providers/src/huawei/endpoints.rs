//! Where the services are: by region, unless the configuration says otherwise.
//!
//! Regions: <https://console-intl.huaweicloud.com/apiexplorer/#/endpoint>.

use natd_core::{
    config,
    error::{Error, Kind, Result},
};
use reqwest::Url;

/// A service that natd calls. Elastic addresses are the VPC service's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Vpc,
    Iam,
}

/// The base URLs.
pub(super) struct Endpoints {
    vpc: Url,
    iam: Url,
}

impl Endpoints {
    pub(super) fn new(options: &config::Huawei, region: &str) -> Result<Self> {
        let of = |key: &str, given: &Option<String>, service: &str| {
            if let Some(url) = given {
                parsed(key, url)
            } else {
                let url = format!("https://{service}.{region}.{}", domain(region));
                parsed("huawei.region", &url)
            }
        };
        Ok(Self {
            vpc: of("huawei.endpoint", &options.endpoint, "vpc")?,
            iam: of("huawei.iam_endpoint", &options.iam_endpoint, "iam")?,
        })
    }

    pub(super) fn of(&self, service: Service) -> &Url {
        match service {
            Service::Vpc => &self.vpc,
            Service::Iam => &self.iam,
        }
    }
}

/// The regions that Huawei runs as its European cloud (`eu-west-101`) have a domain of their own.
fn domain(region: &str) -> &'static str {
    let is_european = region
        .strip_prefix("eu-west-1")
        .is_some_and(|rest| rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is_european { "myhuaweicloud.eu" } else { "myhuaweicloud.com" }
}

/// Refuses early what would fail at the first call with an obscure message. What a URL may hold of
/// user and password is never shown.
pub(super) fn parsed(key: &str, url: &str) -> Result<Url> {
    let refused = |cause: &str| {
        Err(Error::new(Kind::Invalid, format!("use {key}"), cause)
            .with_advice("write http://HOST[:PORT] or https://HOST[:PORT]"))
    };
    match Url::parse(url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            refused("it is not a URL of HTTP")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refused("a URL with a user or a password has no use here: requests are signed")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            refused("it has more than a host and a path")
        }
        Ok(url) => Ok(url),
        Err(error) => refused(&format!("it is not a URL: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn european_regions_have_their_own_domain() -> Result<()> {
        let hosts = |region| {
            Endpoints::new(&config::Huawei::default(), region).map(|endpoints| {
                [Service::Vpc, Service::Iam]
                    .map(|service| endpoints.of(service).host_str().unwrap_or_default().to_owned())
            })
        };
        let european = ["vpc.eu-west-101.myhuaweicloud.eu", "iam.eu-west-101.myhuaweicloud.eu"];
        assert_eq!(hosts("eu-west-101")?, european);
        for region in ["cn-north-4", "eu-west-0", "ap-southeast-1"] {
            let expected = ["vpc", "iam"].map(|s| format!("{s}.{region}.myhuaweicloud.com"));
            assert_eq!(hosts(region)?, expected);
        }
        Ok(())
    }

    #[test]
    fn what_is_no_url_is_refused_by_name_and_shows_no_password() {
        for bad in ["vpc.example", "ftp://vpc.example", "http://u:hunter2@vpc.example", "https://"]
        {
            let error = parsed("huawei.endpoint", bad).expect_err("no base URL");
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains("huawei.endpoint"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
