//! `natd run`: the daemon.

use std::{collections::BTreeSet, time::Duration};

use natd_agent::{
    daemon::Daemon,
    gateway::Gateway,
    lock::Lock,
    notify::Manager,
    serve::{serve_control, serve_health},
    status::Status,
};
use natd_core::{error::Error, journal::JournalFile};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};

use crate::{
    args::Common,
    exit::Exit,
    session::{self, Obstacle},
};

/// At boot the metadata service, credentials and even the network may come later than natd.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Converges until told to stop.
pub async fn run(common: &Common) -> Result<Exit, Obstacle> {
    let config = session::configuration(common)?;
    let _lock = Lock::take(&common.root)?;
    let (status, watched) =
        watch::channel(Status::starting(env!("CARGO_PKG_VERSION"), config.service.interval));
    serve_control(&common.root, watched.clone())?;
    if let Err(error) = serve_health(config.service.listen, watched).await {
        // Hosts behind natd need NAT more than natd needs to be watched.
        tracing::error!(%error, "going on without");
    }
    let mut manager = Manager::of_this_process();
    let Some((gateway, journal)) = begin(common, &mut manager).await? else {
        return Ok(Exit::Done);
    };
    let reload = || async {
        let config = session::configuration(common).map_err(|error| error.to_string())?;
        session::gateway(config, &common.root).await.map_err(|obstacle| match obstacle {
            Obstacle::Configuration(error) => error.to_string(),
            Obstacle::Failure(error) => error.to_string(),
        })
    };
    Box::pin(Daemon::new(gateway, journal, reload, status, manager).run()).await?;
    Ok(Exit::Done)
}

/// Tries until cloud and host answer, or a signal says stop.
async fn begin(
    common: &Common,
    manager: &mut Manager,
) -> Result<Option<(Gateway, JournalFile)>, Obstacle> {
    let failed = |error: std::io::Error| {
        Error::new(natd_core::error::Kind::Unsupported, "listen to signals", error)
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut pause = FIRST_RETRY;
    let mut told = BTreeSet::new();
    loop {
        let error = match first_look(common).await {
            Ok(started) => return Ok(Some(started)),
            Err(Obstacle::Failure(error)) if error.kind().is_transient() => error,
            Err(obstacle) => return Err(obstacle),
        };
        if told.insert(error.sort()) {
            tracing::error!(%error, "NAT may not work; trying again until it does");
        } else {
            tracing::debug!(%error, "trying again in {} s", pause.as_secs());
        }
        manager.ready(&format!("NAT may not work: {error}"));
        tokio::select! {
            () = sleep(pause) => {}
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

async fn first_look(common: &Common) -> Result<(Gateway, JournalFile), Obstacle> {
    let gateway = session::gateway(session::configuration(common)?, &common.root).await?;
    let instance = gateway.instance().await?;
    let journal = JournalFile::open(&common.root, instance.map(|instance| instance.id).as_ref())?;
    Ok((gateway, journal))
}
