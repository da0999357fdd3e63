//! Every answer of the EC2 API and of the metadata service, errors too. The SDK reads the XML; what natd makes of it counts.

use natd_core::config;

use super::Aws;
#[cfg(fuzzing)]
use crate::fuzzing::shared::{head, pieces};
use crate::fuzzing::{
    HASTY, SECRET,
    drive::{drive, told},
    server::serve,
    shared::text,
};

/// Who the instance is, and its role's keys, as far as the input doesn't tell it.
const USUAL: &str = "PUT /latest/api/token 200
x-aws-ec2-metadata-token-ttl-seconds: 21600

token-of-the-fuzzer
====
/meta-data/instance-id 200

i-1
====
/meta-data/placement/availability-zone 200

eu-test-1a
====
/vpc-id 200

vpc-1
====
/subnet-id 200

subnet-own
====
/vpc-ipv4-cidr-blocks 200

10.0.0.0/16
====
/meta-data/network/interfaces/macs/ 200

0a:00:00:00:00:01/
====
/meta-data/mac 200

0a:00:00:00:00:01
====
/meta-data/iam/security-credentials/natd 200

{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIATEST\",\"Token\":\"hunter2-of-the-fuzzer\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"SecretAccessKey\":\"hunter2-of-the-fuzzer\",\"Expiration\":\"2126-01-01T00:00:00Z\"}
====
/meta-data/iam/security-credentials/ 200

natd";

/// Answers, as `server` reads them; a call is known by `Action=` in what is sent.
pub fn aws(input: &[u8]) {
    if text(input).contains(SECRET) {
        return;
    }
    // libFuzzer ends at any panic, caught or not.
    #[cfg(fuzzing)]
    if has_a_token_that_the_sdk_panics_at(input) {
        return;
    }
    serve(input, USUAL, false, async |server| {
        let options = config::Aws {
            endpoint: Some(server.url.clone()),
            metadata_endpoint: Some(server.url.clone()),
            region: Some("eu-test-1".to_owned()),
            ..config::Aws::default()
        };
        // Boxed, since the SDK's futures are large.
        match Box::pin(Aws::connect_with(options, HASTY)).await {
            Ok(aws) => Box::pin(drive(&aws)).await,
            Err(error) => told(&error),
        }
    });
}

#[cfg(fuzzing)]
fn has_a_token_that_the_sdk_panics_at(input: &[u8]) -> bool {
    pieces(input).into_iter().any(|piece| {
        let first = text(head(piece).0);
        let needle = first.rsplit_once(' ').map_or(first.as_str(), |(needle, _status)| needle);
        "PUT /latest/api/token ".contains(needle) && std::str::from_utf8(piece).is_err()
    })
}
