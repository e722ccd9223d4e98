//! The requests of Hrana over HTTP: a pipeline, and a cursor. All of this blocks.

use std::sync::Arc;

use axum::body::Bytes;
use libsql_hrana::proto::{Batch, CursorReqBody, DescribeStreamReq, ExecuteStreamReq};
use libsql_hrana::proto::{PipelineReqBody, StreamRequest};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::answer::{Body, Checkpoint, Entries, Results, Room};
use super::execute;
use super::failure::{Failure, Refusal};
use super::sink::Version;
use super::stream::{Guard, Stream, Streams};

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::protocol(format!("Cannot deserialize client message from JSON: {error}"))
    })
}

/// Runs a pipeline, request by request. Gives the answer's body.
///
/// # Errors
///
/// The whole request is refused, and its stream is closed. A failed statement is not an error.
pub(super) fn pipeline(
    streams: &Arc<Streams>,
    body: &[u8],
    room: usize,
    version: Version,
) -> Result<Vec<u8>, Refusal> {
    let request: PipelineReqBody = parse(body)?;
    tracing::debug!(requests = request.requests.len(), bytes = body.len(), "pipeline");
    let mut guard = streams.acquire(request.baton.as_deref())?;
    let mut answer = Body::new();
    let mut room = Room::new(room);
    answer.raw("{\"results\":[");
    for request in request.requests {
        answer.comma();
        let start = Checkpoint::of(&answer, &room);
        if let Err(failure) = respond(&mut guard, request, version, &mut answer, &mut room)? {
            tracing::debug!(code = failure.code(), "a request failed");
            start.restore(&mut answer, &mut room);
            let failure = match room.take(failure.message().len()) {
                Ok(()) => failure,
                Err(too_large) => too_large,
            };
            answer.raw("{\"type\":\"error\",\"error\":");
            answer.json(&failure);
            answer.raw("}");
        }
    }
    answer.raw("],\"baton\":");
    answer.json(&guard.release());
    answer.raw(",\"base_url\":null}");
    Ok(answer.into_bytes())
}

/// The outcome of one request. If it succeeded, its result is in the answer.
type Done = Result<(), Failure>;

/// Runs one request of a pipeline, and appends its result if it succeeds.
fn respond(
    guard: &mut Guard,
    request: StreamRequest,
    version: Version,
    answer: &mut Body,
    room: &mut Room,
) -> Result<Done, Refusal> {
    let name = match request {
        StreamRequest::None => {
            return Err(Refusal::protocol("StreamRequest type not recognized"));
        }
        StreamRequest::Execute(request) => {
            return respond_execute(guard.stream()?, &request, answer, room);
        }
        StreamRequest::Batch(request) => {
            return respond_batch(guard.stream()?, &request.batch, version, answer, room);
        }
        StreamRequest::Describe(request) => {
            return respond_describe(guard.stream()?, &request, answer, room);
        }
        StreamRequest::GetAutocommit(_) => {
            if version == Version::V2 {
                return Err(Refusal::needs_version_3("The `get_autocommit` request"));
            }
            let is_autocommit = guard.stream()?.connection().is_autocommit();
            answer.raw("{\"type\":\"ok\",\"response\":{\"type\":\"get_autocommit\",");
            answer.raw("\"is_autocommit\":");
            answer.json(&is_autocommit);
            answer.raw("}}");
            return Ok(Ok(()));
        }
        StreamRequest::Close(_) => {
            guard.close();
            "close"
        }
        StreamRequest::Sequence(request) => {
            let stream = guard.stream()?;
            let sql = execute::sql_of(stream, &request.sql, request.sql_id)?;
            if let Err(failure) = execute::sequence(stream, sql) {
                return Ok(Err(failure));
            }
            "sequence"
        }
        StreamRequest::StoreSql(request) => {
            if let Err(failure) = guard.stream()?.store_sql(request.sql_id, request.sql)? {
                return Ok(Err(failure));
            }
            "store_sql"
        }
        StreamRequest::CloseSql(request) => {
            guard.stream()?.close_sql(request.sql_id);
            "close_sql"
        }
    };
    answer.raw("{\"type\":\"ok\",\"response\":{\"type\":\"");
    answer.raw(name);
    answer.raw("\"}}");
    Ok(Ok(()))
}

fn respond_execute(
    stream: &mut Stream,
    request: &ExecuteStreamReq,
    answer: &mut Body,
    room: &mut Room,
) -> Result<Done, Refusal> {
    answer.raw("{\"type\":\"ok\",\"response\":{\"type\":\"execute\",\"result\":");
    let mut results = Results::new(answer, room);
    let done = execute::statement(stream, &request.stmt, &mut results)?;
    answer.raw("}}");
    Ok(done)
}

fn respond_batch(
    stream: &mut Stream,
    batch: &Batch,
    version: Version,
    answer: &mut Body,
    room: &mut Room,
) -> Result<Done, Refusal> {
    execute::check_batch(stream, batch, version)?;
    answer.raw("{\"type\":\"ok\",\"response\":{\"type\":\"batch\",\"result\":");
    answer.raw("{\"step_results\":[");
    let mut results = Results::new(answer, room);
    let done = execute::batch(stream, batch, &mut results);
    let errors = results.into_errors();
    answer.raw("],\"step_errors\":");
    answer.json(&errors);
    answer.raw(",\"replication_index\":null}}}");
    Ok(done)
}

fn respond_describe(
    stream: &Stream,
    request: &DescribeStreamReq,
    answer: &mut Body,
    room: &mut Room,
) -> Result<Done, Refusal> {
    let sql = execute::sql_of(stream, &request.sql, request.sql_id)?;
    Ok(execute::describe(stream.connection(), sql).and_then(|result| {
        let start = answer.len();
        answer.raw("{\"type\":\"ok\",\"response\":{\"type\":\"describe\",\"result\":");
        answer.json(&result);
        answer.raw("}}");
        room.take(answer.len() - start)
    }))
}

/// Runs a batch. `accepted` gets the outcome of the checks first; then `sender` gets the entries as
/// they are produced.
pub(super) fn cursor(
    streams: &Arc<Streams>,
    body: &[u8],
    accepted: oneshot::Sender<Result<(), Refusal>>,
    sender: mpsc::Sender<Bytes>,
) {
    let opened = parse(body).and_then(|request: CursorReqBody| {
        let mut guard = streams.acquire(request.baton.as_deref())?;
        execute::check_batch(guard.stream()?, &request.batch, Version::V3)?;
        Ok((guard, request.batch))
    });
    let (mut guard, batch) = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            // The client may have gone.
            let _ = accepted.send(Err(refusal));
            return;
        }
    };
    tracing::debug!(steps = batch.steps.len(), bytes = body.len(), "cursor");
    let baton = guard.promise();
    let stream = guard.stream().expect("it was there when the batch was checked");
    let deadline = stream.connection().deadline();
    let mut entries = Entries::new(sender, &baton, deadline, streams.send_time());
    if accepted.send(Ok(())).is_err() {
        return;
    }
    let stream = guard.stream().expect("it was there when the batch was checked");
    let failure = execute::batch(stream, &batch, &mut entries).err();
    // Free the stream before the client can read the end of the answer, and use its baton.
    guard.release();
    entries.finish(failure);
}
