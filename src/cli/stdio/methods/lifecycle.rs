//! The life of a sidecar: the agreement on the protocol, opening a database, its status, pauses and
//! the end.

use serde::Serialize;

use super::super::frame::MAX_BYTES;
use super::super::message::{Failure, json};
use super::super::method::{Method, Reply};
use super::super::notices::MAX_ROWS;
use super::super::outgoing::StatusView;
use super::super::params::Params;
use super::super::settings::Settings;
use super::super::sidecar::Sidecar;
use crate::error::Error;
use crate::inspect::Rename;

/// The version of the protocol. It rises when a client of the version before could not go on.
const PROTOCOL: u64 = 1;

/// The first method.
pub(super) const INITIALIZE: &str = "initialize";

pub(super) const METHODS: &[Method] = &[
    Method::new(INITIALIZE, |sidecar, params| initialize(sidecar, params, Vec::new())),
    Method::new("open", open),
    Method::new("status", status),
    Method::new("set_actor", set_actor),
    Method::new("pause", pause),
    Method::new("resume", resume),
    Method::new("begin_migration", begin_migration),
    Method::new("end_migration", end_migration),
    Method::new("shutdown", shutdown),
];

/// Agrees on the version of the protocol.
///
/// # Errors
///
/// `Usage` when the client wants another version.
pub(super) fn initialize(
    sidecar: &mut Sidecar<'_>,
    params: &mut Params,
    methods: Vec<&'static str>,
) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Agreed {
        protocol: u64,
        version: &'static str,
        methods: Vec<&'static str>,
        notifications: [&'static str; 2],
        max_message_bytes: usize,
        max_changed_rows: usize,
    }
    let protocol: u64 = params.take("protocol")?;
    params.end()?;
    if protocol != PROTOCOL {
        let message = format!("this program speaks version {PROTOCOL} of the protocol");
        return Err(Error::usage(message)
            .with_hint(format!("the client wants version {protocol}: use the two of one release"))
            .into());
    }
    sidecar.agree();
    Reply::now(&Agreed {
        protocol,
        version: env!("CARGO_PKG_VERSION"),
        methods,
        notifications: ["status", "changes"],
        max_message_bytes: MAX_BYTES,
        max_changed_rows: MAX_ROWS,
    })
}

/// Starts to replicate a database. Capture is installed when it answers, also offline.
fn open(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Opened<'a> {
        replica: String,
        tables: Vec<&'a str>,
        status: StatusView,
    }
    let settings = Settings::take(sidecar.session(), params)?;
    sidecar.open(settings)?;
    let (replica, status) = (sidecar.replica()?, sidecar.status()?);
    let opened =
        Opened { replica: replica.id().to_string(), tables: replica.tables().collect(), status };
    Reply::now(&opened)
}

fn status(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    Reply::now(&sidecar.status()?)
}

/// Sets who is at work, from now on.
fn set_actor(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let actor: Option<String> = params.option("actor")?;
    params.end()?;
    sidecar.set_actor(actor)?;
    Reply::now(&())
}

/// Sends and fetches nothing more. Writes are captured all the same.
fn pause(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    sidecar.pause()?;
    Reply::now(&sidecar.status()?)
}

/// Goes on after a pause.
fn resume(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    sidecar.resume()?;
    Reply::now(&sidecar.status()?)
}

/// Takes the triggers out of the way of the application's migration.
fn begin_migration(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    sidecar.replicator()?.begin_migration()?;
    Reply::now(&())
}

/// Makes the triggers again.
fn end_migration(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let renames: Option<Vec<Rename>> = params.option("renames")?;
    params.end()?;
    sidecar.replicator()?.end_migration(&renames.unwrap_or_default())?;
    Reply::now(&())
}

/// Ends the process, after this answer.
fn shutdown(_: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    Ok(Reply::Last(json(&())))
}
