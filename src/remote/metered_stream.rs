//! A TCP stream that counts its bytes and limits those of an answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::error::Error;

/// The bytes on the wire for one batch, TLS and HTTP included, and the error of the connection.
///
/// The HTTP client turns an error of its connector into text. The error itself, with its kind and
/// its hint, is kept here.
#[derive(Debug, Default)]
pub(super) struct Meter {
    up: AtomicU64,
    down: AtomicU64,
    /// The most bytes that this batch may receive.
    allowance: AtomicU64,
    overrun: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Meter {
    /// Starts a batch whose answer may have `allowance` bytes.
    pub(super) fn begin(&self, allowance: u64) {
        self.up.store(0, Ordering::Relaxed);
        self.down.store(0, Ordering::Relaxed);
        self.allowance.store(allowance, Ordering::Relaxed);
        self.overrun.store(false, Ordering::Relaxed);
        self.take_failure();
    }

    /// Bytes sent since the batch began.
    pub(super) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes received since the batch began.
    pub(super) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether the answer was cut off because it passed its allowance.
    pub(super) fn overran(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    /// Keeps the reason why no connection could be made.
    pub(super) fn fail(&self, error: Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The reason why no connection could be made, once.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts received bytes; an error if they are more than allowed.
    fn received(&self, bytes: usize) -> io::Result<()> {
        let before = self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > self.allowance.load(Ordering::Relaxed) {
            self.overrun.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the answer is larger than allowed"));
        }
        Ok(())
    }

    /// Counts what a write sent.
    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.up.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

/// A TCP stream whose bytes are counted.
///
/// It writes one slice at a time. A write of several slices is a `writev`, which raises SIGPIPE
/// when the peer is gone. The signal ends a host process that does not ignore it, such as one in C.
/// A plain write is a `send` that suppresses the signal.
#[derive(Debug)]
pub(super) struct Metered {
    stream: TcpStream,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts the bytes of `stream` in `meter`.
    pub(super) fn new(stream: TcpStream, meter: Arc<Meter>) -> Metered {
        Metered { stream, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.meter.received(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.meter.sent(written)
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
    use tokio::io::AsyncWriteExt;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let mut pipe = signal(SignalKind::pipe()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        let mut metered = Metered::new(stream, Arc::default());
        let slices = [io::IoSlice::new(b"two"), io::IoSlice::new(b"slices")];
        // The first one may go out before the peer's answer to it arrives.
        let error = loop {
            match metered.write_vectored(&slices).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()), "{error:?}");
        // Once an error was told, the next write is to a broken pipe for certain.
        let error = metered.write_vectored(&slices).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // A signal of before would be there by now: one that is raised arrives after it.
        let pid = std::process::id().to_string();
        let mut other = signal(SignalKind::user_defined2()).unwrap();
        let kill = std::process::Command::new("kill").args(["-USR2", &pid]).status().unwrap();
        assert!(kill.success());
        other.recv().await;
        let raised = tokio::time::timeout(std::time::Duration::ZERO, pipe.recv()).await;
        assert!(raised.is_err(), "SIGPIPE would end a program that does not ignore it");
    }
}
