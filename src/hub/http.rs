//! The hub's HTTP: routes, authorization, bodies. A blocking thread does the work of a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body as HttpBody, Bytes, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::failure::Refusal;
use super::limits::Limits;
use super::request;
use super::sink::Version;
use super::stream::Streams;

/// Bytes of a refused body that are read and discarded, as a multiple of the limit. A client that
/// still writes when its connection is closed sees a broken pipe instead of the answer.
const DRAIN_FACTOR: usize = 8;

/// Chunks of a cursor's answer that may wait for the network.
const CURSOR_CHUNKS: usize = 4;

/// The state that all requests share.
pub(super) struct Shared {
    streams: Arc<Streams>,
    /// The hash of the token that requests must show; they are compared in constant time.
    token: Option<blake3::Hash>,
    bodies: Bodies,
    limits: Limits,
}

type App = State<Arc<Shared>>;

impl Shared {
    /// For a hub with these streams. Each request must show `token`, if there is one.
    pub(super) fn new(streams: Streams, token: Option<&SecretString>, limits: Limits) -> Self {
        Shared {
            streams: Arc::new(streams),
            token: token.map(|token| blake3::hash(token.expose_secret().as_bytes())),
            bodies: Bodies::new(limits.bodies_bytes),
            limits,
        }
    }

    pub(super) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// The memory for all bodies together, in pieces of [`PIECE_BYTES`].
struct Bodies(Arc<Semaphore>);

/// The unit in which bodies are counted. A small request costs one.
const PIECE_BYTES: usize = 16 * 1024;

impl Bodies {
    fn new(bytes: usize) -> Self {
        Bodies(Arc::new(Semaphore::new(bytes.div_ceil(PIECE_BYTES).min(Semaphore::MAX_PERMITS))))
    }
}

/// A request's body, and its share of the memory until the request is done.
struct Held {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Appends `data`; false if there is no room for it.
    fn extend(&mut self, data: &[u8], bodies: &Bodies) -> bool {
        let has = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needs = (self.bytes.len() + data.len()).div_ceil(PIECE_BYTES);
        if let Some(more) = needs.checked_sub(has).filter(|more| *more > 0) {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&bodies.0).try_acquire_many_owned(more) else { return false };
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
        }
        self.bytes.extend_from_slice(data);
        true
    }
}

/// Every route of the hub.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(|| async {}))
        .route("/version", get(version))
        .route("/v2", get(|| async { "Hello, this is HTTP API v2 (Hrana over HTTP)" }))
        .route("/v3", get(|| async { "Hello, this is HTTP API v3 (Hrana over HTTP)" }))
        .route("/v2/pipeline", post(|app, head, body| pipeline(app, head, body, Version::V2)))
        .route("/v3/pipeline", post(|app, head, body| pipeline(app, head, body, Version::V3)))
        .route("/v3/cursor", post(cursor))
        .with_state(shared)
}

async fn version() -> String {
    format!("driftless hub {} (SQLite {})", env!("CARGO_PKG_VERSION"), rusqlite::version())
}

async fn pipeline(
    State(shared): App,
    headers: HeaderMap,
    body: HttpBody,
    version: Version,
) -> Result<Response, Refusal> {
    let body = admit(&shared, &headers, body).await?;
    let work = move || {
        let room = shared.limits.response_bytes;
        request::pipeline(&shared.streams, &body.bytes, room, version)
    };
    let answer = blocking(work).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

async fn cursor(
    State(shared): App,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<Response, Refusal> {
    let body = admit(&shared, &headers, body).await?;
    let (accepted, acceptance) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(CURSOR_CHUNKS);
    // The thread is not awaited: it ends when the answer is written, or its reader has gone.
    tokio::task::spawn_blocking(move || {
        request::cursor(&shared.streams, &body.bytes, accepted, sender);
    });
    acceptance.await.map_err(|_| panicked())??;
    let body = HttpBody::new(Chunks(receiver));
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| panicked())
}

fn panicked() -> Refusal {
    Refusal::Internal("the request could not be finished".into())
}

/// The request's body, if the request may be made.
async fn admit(shared: &Shared, headers: &HeaderMap, body: HttpBody) -> Result<Held, Refusal> {
    let limit = shared.limits.request_bytes;
    let admitted = async {
        if let Err(refusal) = authorize(shared.token.as_ref(), headers) {
            // Discard the body.
            let _ = read(body, 0, limit, &shared.bodies).await;
            return Err(refusal);
        }
        read(body, limit, limit.saturating_mul(DRAIN_FACTOR), &shared.bodies).await
    };
    let admitted = tokio::time::timeout(shared.limits.body_time, admitted).await;
    admitted.unwrap_or(Err(Refusal::Slow))
}

fn authorize(token: Option<&blake3::Hash>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else { return Ok(()) };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::Unauthorized(
            "The `Authorization` HTTP header is required but was not specified",
        ));
    };
    let Some((scheme, shown)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return Err(Refusal::Unauthorized("The `Authorization` HTTP header has invalid value"));
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::Unauthorized(
            "The authentication scheme in the `Authorization` HTTP header is not supported",
        ));
    }
    if blake3::hash(shown.trim().as_bytes()) != *token {
        return Err(Refusal::Unauthorized("The JWT is invalid"));
    }
    Ok(())
}

/// The whole of `body` if it has at most `limit` bytes. A larger one is read and discarded, up to
/// `drain` bytes.
async fn read(
    mut body: HttpBody,
    limit: usize,
    drain: usize,
    bodies: &Bodies,
) -> Result<Held, Refusal> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut held = Held { bytes: Vec::new(), room: None };
    let mut refusal = (announced > limit).then_some(Refusal::BodyTooLarge(limit));
    let mut seen = 0_usize;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::protocol("The body of the request broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if refusal.is_none() {
            if seen > limit {
                refusal = Some(Refusal::BodyTooLarge(limit));
            } else if !held.extend(&data, bodies) {
                refusal = Some(Refusal::Crowded);
            }
            if refusal.is_some() {
                held = Held { bytes: Vec::new(), room: None };
            }
        } else if seen > drain {
            break;
        }
    }
    refusal.map_or(Ok(held), Err)
}

/// A body that is produced while it is sent.
struct Chunks(mpsc::Receiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}
