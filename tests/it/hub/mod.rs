//! The development server, as its clients see it: recorded exchanges, the `libsql` crate,
//! `@libsql/client`, and what happens at its limits.

mod costs;
mod crate_client;
mod exchanges;
pub(crate) mod limits;
mod node_client;

use std::path::PathBuf;

use driftless::hub::{Config, Hub, Totals};
use hyper::{Body, Client, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A hub over a database of its own, on a port of its own.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) totals: Totals,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<driftless::Result<()>>,
}

impl Running {
    /// Starts a hub with the configuration that `adjust` makes of the default one.
    pub(crate) async fn start(adjust: impl FnOnce(&mut Config)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("hub.db");
        let mut config = Config::new(db, "127.0.0.1:0".parse().unwrap());
        adjust(&mut config);
        let hub = Hub::bind(config).await.unwrap();
        let (url, totals) = (hub.url(), hub.totals());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(hub.serve(async {
            let _ = stopped.await;
        }));
        Running { url, totals, folder, stop, serving }
    }

    /// The database file.
    pub(crate) fn db(&self) -> PathBuf {
        self.folder.path().join("hub.db")
    }

    /// Stops it, and checks that it stops well.
    pub(crate) async fn stop(self) {
        let log = self.db().with_extension("db-wal");
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        assert!(!log.exists(), "a hub that stops leaves its database whole, without a log");
    }

    /// Sends `body` and returns status and answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: impl Into<Body>,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(body.into()).unwrap();
        let response = Client::new().request(request).await.unwrap();
        let status = response.status();
        let body = hyper::body::to_bytes(response.into_body()).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Sends requests to `/v3/pipeline`, on the stream of `baton`, and returns status and answer.
    pub(crate) async fn pipeline(
        &self,
        baton: Option<&str>,
        requests: Value,
    ) -> (StatusCode, Value) {
        let body = serde_json::json!({ "baton": baton, "requests": requests }).to_string();
        let (status, answer) = self.send("POST", "/v3/pipeline", None, body).await;
        let answer = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
        (status, answer)
    }
}
