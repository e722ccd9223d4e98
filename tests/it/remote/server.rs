//! A small HTTP server that answers what a test tells it to, byte for byte, and notes what it got.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Json,
}

impl Request {
    /// The SQL of each step of the batch, those around the caller's statements included.
    pub(crate) fn steps(&self) -> Vec<String> {
        let steps = self.body["requests"][0]["batch"]["steps"].as_array().unwrap();
        steps.iter().map(|step| step["stmt"]["sql"].as_str().unwrap().to_owned()).collect()
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Sends these bytes, and waits for the next request.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// Sends the first bytes, and then the others without end.
    Endless(Vec<u8>, Vec<u8>),
    /// Never answers, and notes when the client gives up.
    Silence,
}

impl Reply {
    /// An HTTP answer.
    pub(crate) fn http(status: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        Reply::Bytes([head.as_bytes(), body].concat())
    }

    /// An answer to a batch whose steps all went well, with these rows for each of its own
    /// statements, as JSON arrays of Hrana's values.
    pub(crate) fn rows(statements: &[Json]) -> Reply {
        Reply::http("200 OK", pipeline(statements, None, Json::Null))
    }

    /// An answer to a batch of `statements`, the one at `index` of which failed.
    pub(crate) fn failed(statements: usize, index: usize, message: &str, code: &str) -> Reply {
        let rows = vec![json!([]); statements];
        let error = (index, json!({ "message": message, "code": code }));
        Reply::http("200 OK", pipeline(&rows, Some(error), Json::Null))
    }

    /// An answer that asks the client to go on at `base_url`.
    pub(crate) fn moved(base_url: &str) -> Reply {
        Reply::http("200 OK", pipeline(&[json!([])], None, json!(base_url)))
    }
}

/// The body of an answer. Around the caller's statements come BEGIN, COMMIT and ROLLBACK.
fn pipeline(statements: &[Json], error: Option<(usize, Json)>, base_url: Json) -> String {
    let result = |rows: &Json| {
        let width = rows[0].as_array().map_or(0, Vec::len);
        json!({
            "cols": vec![json!({ "name": "c", "decltype": null }); width], "rows": rows, "affected_row_count": 0, "last_insert_rowid": null
        })
    };
    let none = json!([]);
    let mut results = vec![result(&none)];
    let mut errors = vec![Json::Null];
    let failed = error.as_ref().map_or(usize::MAX, |(index, _)| *index);
    for (index, rows) in statements.iter().enumerate() {
        results.push(if index < failed { result(rows) } else { Json::Null });
        let this = error.as_ref().filter(|(at, _)| *at == index);
        errors.push(this.map_or(Json::Null, |(_, error)| error.clone()));
    }
    // Either COMMIT ran or ROLLBACK.
    results.push(if error.is_none() { result(&none) } else { Json::Null });
    results.push(if error.is_none() { Json::Null } else { result(&none) });
    errors.extend([Json::Null, Json::Null]);
    let batch = json!({ "step_results": results, "step_errors": errors });
    json!({
        "baton": null,
        "base_url": base_url,
        "results": [
            { "type": "ok", "response": { "type": "batch", "result": batch } },
            { "type": "ok", "response": { "type": "get_autocommit", "is_autocommit": true } },
            { "type": "ok", "response": { "type": "close" } },
        ],
    })
    .to_string()
}

/// What the server has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    requests: Mutex<Vec<Request>>,
    arrived: Notify,
    given_up: Notify,
}

type Answer = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// A server on a free port of this machine. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server without TLS. `answer` gets the number of the request, from 0, and the request.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::listen(None, Arc::new(answer)).await
    }

    /// A server with TLS.
    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::listen(Some(acceptor), Arc::new(answer)).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>, answer: Arc<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &seen, &answer).await,
                        // A client that does not trust us goes away here.
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &seen, &answer).await;
                            }
                        }
                    }
                });
            }
        });
        Server { port, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Bytes that came in and went out so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.seen.bytes_in.load(Ordering::SeqCst), self.seen.bytes_out.load(Ordering::SeqCst))
    }

    /// Returns once a request has arrived since the last call.
    pub(crate) async fn arrival(&self) {
        self.seen.arrived.notified().await;
    }

    /// Returns once a client has closed a connection on which it got no answer.
    pub(crate) async fn given_up(&self) {
        self.seen.given_up.notified().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, answer: &Arc<Answer>) {
    while let Some(request) = read(&mut stream, seen).await {
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        seen.arrived.notify_one();
        let (bytes, last) = match answer(number, &request) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Last(bytes) => (bytes, true),
            Reply::Endless(first, again) => {
                let mut bytes = first;
                while stream.write_all(&bytes).await.is_ok() {
                    seen.bytes_out.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    bytes.clone_from(&again);
                }
                return seen.given_up.notify_one();
            }
            Reply::Silence => {
                let _ = stream.read(&mut [0]).await;
                return seen.given_up.notify_one();
            }
        };
        seen.bytes_out.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        // A client that has gone is no fault of the server's.
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() || last {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Reads one request; `None` at the end of the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin), seen: &Seen) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let head = memchr::memmem::find(&bytes, b"\r\n\r\n").map(|end| end + 4);
        if let Some(head_len) = head {
            let head = String::from_utf8(bytes[..head_len].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body_len: usize = length.unwrap().trim().parse().unwrap();
            if bytes.len() >= head_len + body_len {
                assert_eq!(bytes.len(), head_len + body_len, "one request at a time");
                let body = serde_json::from_slice(&bytes[head_len..]).unwrap();
                return Some(Request { head, body });
            }
        }
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        seen.bytes_in.fetch_add(read as u64, Ordering::SeqCst);
        bytes.extend_from_slice(&chunk[..read]);
    }
}
