//! Signatures against those that the official Python SDK made (`huaweicloudsdkcore` 3.1.219).

use natd_core::config::Secret;
use natd_providers::huawei::sign::{Keys, Signed, Unsigned, sign};
use serde_json::Value;

/// A request with what the SDK made of it.
struct Vector(Value);

impl Vector {
    fn all() -> Vec<Self> {
        let all: Vec<Value> =
            serde_json::from_str(include_str!("signing-vectors.json")).expect("JSON");
        all.into_iter().map(Self).collect()
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().expect("a text")
    }

    /// Pairs of the query; one name may have a list of values.
    fn query(&self) -> Vec<(String, String)> {
        let pairs = self.0["query"].as_array().expect("pairs");
        let values = |pair: &Value| match &pair[1] {
            Value::Array(values) => values.iter().map(plain).collect(),
            value => vec![plain(value)],
        };
        pairs
            .iter()
            .flat_map(|pair| values(pair).into_iter().map(|value| (plain(&pair[0]), value)))
            .collect()
    }

    fn headers(&self) -> Vec<(String, String)> {
        let headers = self.0["headers"].as_object().expect("headers");
        headers.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
    }

    fn sign(&self, body: &[u8], secret: &str) -> Signed {
        let token = self.0["security_token"].as_str();
        let keys = Keys {
            access: self.text("access_key").to_owned(),
            secret: Secret::from(secret.to_owned()),
            token: token.map(|token| Secret::from(token.to_owned())),
        };
        let unsigned = Unsigned {
            method: self.text("method"),
            host: self.text("host"),
            path: self.text("path"),
            query: &self.query(),
            headers: &self.headers(),
            body,
        };
        let date = self.text("date");
        let part = |range: std::ops::Range<usize>| &date[range];
        let (day, time) =
            ([part(0..4), part(4..6), part(6..8)], [part(9..11), part(11..13), part(13..15)]);
        let time = format!("{}T{}Z", day.join("-"), time.join(":")).parse().expect("a time");
        sign(unsigned, &keys, time)
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn every_vector_is_signed_as_the_sdk_does() {
    let vectors = Vector::all();
    assert!(vectors.len() >= 40);
    for vector in vectors {
        let name = vector.text("name");
        let signed = vector.sign(vector.text("body").as_bytes(), vector.text("secret_key"));
        assert_eq!(signed.canonical_request, vector.text("expected_canonical_request"), "{name}");
        assert_eq!(signed.string_to_sign, vector.text("expected_string_to_sign"), "{name}");
        assert_eq!(signed.authorization, vector.text("expected_authorization"), "{name}");
        assert_eq!(signed.uri, vector.text("expected_wire_uri"), "{name}");
    }
}

#[test]
fn one_changed_byte_changes_the_signature() {
    for vector in Vector::all() {
        let (body, secret) = (vector.text("body"), vector.text("secret_key"));
        let expected = vector.text("expected_authorization");
        let other_secret = format!("{secret}x");
        assert_ne!(vector.sign(body.as_bytes(), &other_secret).authorization, expected);
        let is_hashed = !vector.text("expected_canonical_request").ends_with("UNSIGNED-PAYLOAD");
        if is_hashed && !body.is_empty() {
            let other_body = [&body.as_bytes()[1..], b"x"].concat();
            assert_ne!(vector.sign(&other_body, secret).authorization, expected);
        }
        for (name, value) in [("path", "/v1/q"), ("method", "OPTIONS"), ("host", "other.example")] {
            if name == "host" && vector.0["headers"].get("Host").is_some() {
                continue;
            }
            let mut other = Vector(vector.0.clone());
            other.0[name] = value.into();
            let signed = other.sign(body.as_bytes(), secret);
            assert_ne!(signed.authorization, expected, "{name}");
        }
    }
}

#[test]
fn keys_are_never_shown() {
    let secret = Secret::from("hunter2".to_owned());
    let keys = Keys { access: "HUNTER".to_owned(), token: Some(secret.clone()), secret };
    assert_eq!(format!("{keys:?}"), "Keys(***)");
}
