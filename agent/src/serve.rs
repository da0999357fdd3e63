//! `/livez`, `/readyz` and `/metrics` over HTTP, and the daemon's status on the control socket.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use natd_core::error::{Error, Kind, Result};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
};

use crate::status::Status;

/// Serves health and metrics until the process ends.
///
/// # Errors
/// `Conflict` if the address is taken.
pub async fn serve_health(listen: SocketAddr, status: watch::Receiver<Status>) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(Kind::Conflict, format!("serve health and metrics on {listen}"), error)
            .with_advice("set service.listen to a free address")
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health and metrics are no longer served");
        }
    });
    Ok(())
}

async fn livez(State(status): State<watch::Receiver<Status>>) -> (StatusCode, String) {
    answer(status.borrow().is_live(), "the loop turns".to_owned(), "the loop is stuck".to_owned())
}

async fn readyz(State(status): State<watch::Receiver<Status>>) -> (StatusCode, String) {
    let status = status.borrow();
    answer(status.is_ready(), status.headline(), status.headline())
}

fn answer(well: bool, yes: String, no: String) -> (StatusCode, String) {
    if well { (StatusCode::OK, yes + "\n") } else { (StatusCode::SERVICE_UNAVAILABLE, no + "\n") }
}

async fn metrics(State(status): State<watch::Receiver<Status>>) -> (StatusCode, String) {
    let mut registry = Registry::with_prefix("natd");
    {
        let status = status.borrow();
        let (counts, proofs) = (status.counts, status.proofs);
        let mut gauge = |name, help, value: u64| {
            registry.register(
                name,
                help,
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
            );
        };
        gauge("ready", "1 if the last tick found NAT to work", u64::from(status.is_ready()));
        gauge(
            "routes_served",
            "Routes that lead here",
            status.report.as_ref().map_or(0, |report| report.served.len() as u64),
        );
        gauge(
            "warnings",
            "What natd status warns of",
            status.report.as_ref().map_or(0, |report| report.warnings.len() as u64),
        );
        gauge(
            "last_tick_timestamp_seconds",
            "When the last tick ended",
            status.last_tick.unwrap_or(0),
        );
        gauge("proof_failures", "How many proofs have failed in a row", u64::from(proofs.failures));
        gauge(
            "routes_withdrawn",
            "1 while routes are given back since proofs fail",
            u64::from(proofs.withdrawn),
        );
        let mut counter =
            |name, help, value: u64| registry.register(name, help, ConstCounter::new(value));
        counter("full_ticks", "Ticks that looked at cloud and host", counts.full_ticks);
        counter("host_ticks", "Ticks that looked at the host alone", counts.host_ticks);
        counter("failed_ticks", "Ticks that came to nothing", counts.failed_ticks);
        counter("steps_done", "Steps done", counts.steps_done);
        counter("steps_failed", "Steps that failed", counts.steps_failed);
        counter("canaries_returned", "Canaries that came through", proofs.returned);
        counter("canaries_lost", "Canaries that were lost", proofs.lost);
        counter("canaries_unsent", "Canaries that could not be sent", proofs.unsent);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The control socket, in `/run/natd`.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

fn control_socket(root: &Path) -> PathBuf {
    root.join("run/natd").join(CONTROL_SOCKET)
}

/// Serves the daemon's status on `/run/natd/control.sock`, for root alone: whoever connects is
/// sent it as JSON.
///
/// # Errors
/// `Denied`.
pub fn serve_control(root: &Path, status: watch::Receiver<Status>) -> Result<()> {
    let path = control_socket(root);
    let failed =
        |error: io::Error| Error::new(Kind::Denied, format!("listen on {}", path.display()), error);
    // The lock is held, so whatever is there was left by a daemon that is no more.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = serde_json::to_vec(&*status.borrow());
            if let Ok(answer) = answer {
                // A client that hangs up early has what it wanted.
                stream.write_all(&answer).await.ok();
            }
        }
    });
    Ok(())
}

/// Asks a running daemon for its status; `None` if there is none.
pub async fn ask_control(root: &Path) -> Option<serde_json::Value> {
    let mut stream = UnixStream::connect(control_socket(root)).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    serde_json::from_slice(&answer).ok()
}
