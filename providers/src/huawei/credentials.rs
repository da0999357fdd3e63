//! The keys that requests are signed with: configuration, environment, file, or the ECS's agency, in
//! this order; the agency's are renewed before they end.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use configparser::ini::Ini;
use jiff::{SignedDuration, Timestamp};
use natd_core::{
    config::{self, Secret},
    error::{Error, Kind, Result},
};
use serde::Deserialize;

use super::{
    environment::Environment,
    metadata::{Metadata, SECURITY_KEY},
    sign::Keys,
};

/// What an operator can do who has no keys.
pub(super) const WHERE_FROM: &str = "give the ECS an agency for ECS, or set \
    HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or huawei.access_key and huawei.secret_key";

/// Keys of an agency are renewed when less of their time than this is left, as the SDK does: they
/// live for an hour, and the cloud makes new ones ten minutes before that.
const EARLY: SignedDuration = SignedDuration::from_mins(40);

/// After a renewal that failed, or brought the same keys, the next is tried after this.
const AGAIN: Duration = Duration::from_mins(1);

/// Keys of an agency are not used any more when less of their time than this is left.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// Where the keys come from.
pub(super) enum Credentials {
    /// Given; nothing to renew.
    Given(Given),
    /// The ECS's agency.
    Agency(Agency),
}

/// Keys, and the project if it is told beside them.
#[derive(Debug, Clone)]
pub(super) struct Given {
    keys: Keys,
    project: Option<String>,
}

/// The agency's keys, as they were read last.
pub(super) struct Agency {
    metadata: Arc<Metadata>,
    held: Mutex<Option<Temporary>>,
    /// Held by whoever renews.
    renewing: tokio::sync::Mutex<()>,
    /// The last renewal ahead of time has failed.
    fails: AtomicBool,
}

#[derive(Clone)]
struct Temporary {
    keys: Keys,
    expires: Timestamp,
    /// Not before this is the next renewal tried: by a clock that nobody sets.
    next: Instant,
}

impl Credentials {
    /// Finds the first place that has keys. Of the agency only its existence is assumed.
    ///
    /// # Errors
    /// `Invalid` for a place that has half of a pair, or a file that can't be read.
    pub(super) fn find(
        options: &config::Huawei,
        environment: &Environment,
        metadata: Arc<Metadata>,
    ) -> Result<Self> {
        let found = match of_options(options)? {
            Some(given) => Some(given),
            None => match of_environment(environment)? {
                Some(given) => Some(given),
                None => of_file(environment)?,
            },
        };
        Ok(match found {
            Some(given) => Self::Given(given),
            None => Self::Agency(Agency {
                metadata,
                held: Mutex::default(),
                renewing: tokio::sync::Mutex::default(),
                fails: AtomicBool::new(false),
            }),
        })
    }

    /// The project, where it is told beside the keys.
    pub(super) fn project(&self) -> Option<&str> {
        match self {
            Self::Given(given) => given.project.as_deref(),
            Self::Agency(_) => None,
        }
    }

    /// Keys that are valid now.
    pub(super) async fn keys(&self) -> Result<Keys> {
        match self {
            Self::Given(given) => Ok(given.keys.clone()),
            Self::Agency(agency) => agency.keys().await,
        }
    }

    /// Other keys than these, which the cloud has refused; `None` if there are no others.
    pub(super) async fn other_than(&self, refused: &Keys) -> Result<Option<Keys>> {
        match self {
            Self::Given(_) => Ok(None),
            Self::Agency(agency) => agency.other_than(refused).await,
        }
    }
}

impl Agency {
    /// While the keys are valid nobody waits: one caller renews them, the others go on with the old
    /// ones. When they are not, all wait for the one.
    async fn keys(&self) -> Result<Keys> {
        let now = Timestamp::now();
        let held = self.held().clone();
        let valid = held.filter(|held| held.expires.duration_since(now) > LATE);
        if let Some(held) = valid {
            let due = held.expires.duration_since(now) < EARLY && held.next <= Instant::now();
            if due
                && let Ok(_renewing) = self.renewing.try_lock()
                // Somebody may have been faster since the look above.
                && self.is_still(&held.keys)
            {
                return Ok(match self.renew().await {
                    Ok(keys) => {
                        if self.fails.swap(false, Ordering::Relaxed) {
                            tracing::info!("the agency's keys are renewed again");
                        }
                        keys
                    }
                    Err(error) => {
                        if self.fails.swap(true, Ordering::Relaxed) {
                            tracing::debug!(%error, "still not renewed");
                        } else {
                            tracing::warn!(%error, expire_at = %held.expires, "the agency's keys are not renewed; the old ones still serve");
                        }
                        self.put_off();
                        held.keys
                    }
                });
            }
            return Ok(held.keys);
        }
        let _renewing = self.renewing.lock().await;
        let held = self.held().clone();
        match held.filter(|held| held.expires.duration_since(Timestamp::now()) > LATE) {
            Some(held) => Ok(held.keys),
            None => self.renew().await,
        }
    }

    async fn other_than(&self, refused: &Keys) -> Result<Option<Keys>> {
        let _renewing = self.renewing.lock().await;
        let keys = if self.is_still(refused) {
            let keys = self.renew().await?;
            if keys != *refused {
                tracing::info!("the cloud refused the agency's keys; going on with new ones");
            }
            keys
        } else {
            self.held().as_ref().map_or_else(|| refused.clone(), |held| held.keys.clone())
        };
        Ok((keys != *refused).then_some(keys))
    }

    /// Reads the keys. The caller holds `renewing`.
    async fn renew(&self) -> Result<Keys> {
        let read = self.metadata.in_time(self.metadata.document::<SecurityKey>(SECURITY_KEY));
        let credential = match read.await {
            Ok(SecurityKey { credential }) => credential,
            Err(error) if error.kind() == Kind::NotFound => {
                return Err(Error::new(
                    Kind::Denied,
                    "get keys to sign with",
                    "there are none in the configuration, the environment and \
                     ~/.huaweicloud/credentials, and this ECS has no agency",
                )
                .with_advice(WHERE_FROM));
            }
            Err(error) => return Err(error),
        };
        let expires = credential.expires_at.parse().map_err(|_| {
            Error::new(
                Kind::Invalid,
                "get keys to sign with",
                "the end of the agency's keys is no time",
            )
        })?;
        let keys = Keys {
            access: credential.access,
            secret: credential.secret,
            token: credential.securitytoken,
        };
        let now = Instant::now();
        let mut held = self.held();
        let same = held.as_ref().is_some_and(|held| held.keys == keys);
        let next = if same { now + AGAIN } else { now };
        *held = Some(Temporary { keys: keys.clone(), expires, next });
        Ok(keys)
    }

    fn put_off(&self) {
        if let Some(held) = self.held().as_mut() {
            held.next = Instant::now() + AGAIN;
        }
    }

    fn is_still(&self, keys: &Keys) -> bool {
        self.held().as_ref().is_none_or(|held| held.keys == *keys)
    }

    fn held(&self) -> MutexGuard<'_, Option<Temporary>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The document at [`SECURITY_KEY`].
#[derive(Deserialize)]
struct SecurityKey {
    credential: SecurityCredential,
}

#[derive(Deserialize)]
struct SecurityCredential {
    access: String,
    secret: Secret,
    securitytoken: Option<Secret>,
    expires_at: String,
}

fn of_options(options: &config::Huawei) -> Result<Option<Given>> {
    let access = options.access_key.clone();
    let secret = options.secret_key.clone();
    let keys = pair("huawei.access_key", access, "huawei.secret_key", secret)?;
    Ok(keys.map(|(access, secret)| Given {
        keys: Keys { access, secret, token: options.security_token.clone() },
        project: None,
    }))
}

fn of_environment(environment: &Environment) -> Result<Option<Given>> {
    let get = |name: &str| environment.get(name).map(str::to_owned);
    let (access, secret) = ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK");
    let keys = pair(access, get(access), secret, get(secret).map(Secret::from))?;
    Ok(keys.map(|(access, secret)| Given {
        keys: Keys {
            access,
            secret,
            token: get("HUAWEICLOUD_SDK_SECURITY_TOKEN").map(Secret::from),
        },
        project: None,
    }))
}

/// The file of the SDK's profiles: `[basic]` of `~/.huaweicloud/credentials`, or of the file that
/// `HUAWEICLOUD_SDK_CREDENTIALS_FILE` names.
fn of_file(environment: &Environment) -> Result<Option<Given>> {
    let named = environment.get("HUAWEICLOUD_SDK_CREDENTIALS_FILE").map(PathBuf::from);
    let usual = || Some(environment.home()?.join(".huaweicloud/credentials"));
    let is_named = named.is_some();
    let Some(path) = named.or_else(usual) else { return Ok(None) };
    let doing = || format!("read the keys in {}", path.display());
    let content = match std::fs::read_to_string(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => {
            return Ok(None);
        }
        Err(error) => return Err(Error::new(Kind::Invalid, doing(), error)),
    };
    // Case-sensitive in nothing, and `;` and `#` begin a comment only at the start of a line: a
    // secret may hold both.
    let mut file = Ini::new();
    file.set_inline_comment_symbols(Some(&[]));
    // The parser's own message quotes the line, which may be a secret.
    file.read(content).map_err(|_| {
        Error::new(Kind::Invalid, doing(), "it is not an INI file")
            .with_advice("write a section [basic] with lines ak = … and sk = …")
    })?;
    let get = |key: &str| file.get("basic", key).filter(|value| !value.is_empty());
    let keys = pair("ak", get("ak"), "sk", get("sk").map(Secret::from))
        .map_err(|error| Error::new(Kind::Invalid, doing(), error))?;
    Ok(keys.map(|(access, secret)| Given {
        keys: Keys { access, secret, token: get("security_token").map(Secret::from) },
        project: get("project_id"),
    }))
}

/// Both halves, or neither.
fn pair(
    name: &str,
    access: Option<String>,
    secret_name: &str,
    secret: Option<Secret>,
) -> Result<Option<(String, Secret)>> {
    match (access, secret) {
        (Some(access), Some(secret)) => Ok(Some((access, secret))),
        (None, None) => Ok(None),
        (access, _) => {
            let (there, missing) =
                if access.is_some() { (name, secret_name) } else { (secret_name, name) };
            Err(Error::new(Kind::Invalid, format!("use {there}"), format!("{missing} is not set"))
                .with_advice("give both, or neither"))
        }
    }
}
