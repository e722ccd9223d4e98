//! The hub's connections: their number, and their time limits.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use hyper1::server::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::http::{Shared, router};

/// Pause after a connection could not be accepted. If no file descriptor is left, some must be
/// closed first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The most bytes of a request's head, and of one read of its body. Hyper's own limit is 400 kB,
/// for each connection.
const BUFFER_BYTES: usize = 64 * 1024;

/// Answers requests until `stop` is ready, and then those under way, within the grace.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()> + Send,
) {
    let limits = shared.limits().clone();
    let places = Arc::new(Semaphore::new(limits.connections));
    let router = router(shared);
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.head_time);
    server.max_buf_size(BUFFER_BYTES);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Send small answers at once: the client waits for them.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(Patient::new(stream, limits.send_time));
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(server.serve_connection(io, service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(limits.stop_grace, graceful.shutdown()).await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Bytes of slices that are joined before they are written: the head of an answer and a small body
/// go into one packet.
const GATHERED_BYTES: usize = 16 * 1024;

/// A connection that fails when its client reads nothing for too long.
///
/// Slices are joined here because the system's `writev` raises SIGPIPE when the client is gone. The
/// signal ends a host process that does not ignore it, such as one in C. A plain write is a `send`
/// that suppresses the signal.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// What was gathered for one write.
    gathered: Vec<u8>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Patient {
        Patient { stream, patience, gathered: Vec::new(), waiting: None }
    }

    /// The outcome of a write, or an error if it has waited for too long.
    fn watch<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(large) = first.filter(|slice| slice.len() >= GATHERED_BYTES) {
            return self.poll_write(context, large);
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        for slice in slices {
            let room = GATHERED_BYTES - gathered.len();
            gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let outcome = self.as_mut().poll_write(context, &gathered);
        self.gathered = gathered;
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    async fn pair() -> (Patient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Patient::new(stream, Duration::from_secs(60)), client)
    }

    #[tokio::test]
    async fn slices_arrive_in_their_order() {
        let (mut patient, mut client) = pair().await;
        let body: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        let slices = [&b"head"[..], b"", &body[..10], &body[10..60_000], b"", &body[60_000..]];
        let expected = slices.concat();
        let sent = async {
            let mut slices = slices.map(io::IoSlice::new);
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                let written = patient.write_vectored(rest).await.unwrap();
                io::IoSlice::advance_slices(&mut rest, written);
            }
            patient.shutdown().await.unwrap();
        };
        let mut arrived = Vec::new();
        let (read, ()) = tokio::join!(client.read_to_end(&mut arrived), sent);
        read.unwrap();
        assert!(arrived == expected, "{} of {} bytes", arrived.len(), expected.len());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_an_error_and_no_signal() {
        let mut pipe = signal(SignalKind::pipe()).unwrap();
        let (mut patient, client) = pair().await;
        drop(client);
        let slices = [io::IoSlice::new(b"two"), io::IoSlice::new(b"slices")];
        // The first one may go out before the client's answer to it arrives.
        while patient.write_vectored(&slices).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // Once an error was told, the next write is to a broken pipe for certain.
        let error = patient.write_vectored(&slices).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // A signal of before would be there by now: one that is raised arrives after it.
        let pid = std::process::id().to_string();
        let mut other = signal(SignalKind::user_defined1()).unwrap();
        let kill = std::process::Command::new("kill").args(["-USR1", &pid]).status().unwrap();
        assert!(kill.success());
        other.recv().await;
        let raised = tokio::time::timeout(Duration::ZERO, pipe.recv()).await;
        assert!(raised.is_err(), "SIGPIPE would end a program that does not ignore it");
    }
}
