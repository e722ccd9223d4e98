//! How a connection to a remote is made: TCP, and TLS above it where the URL asks for it.
//!
//! The connector of the `libsql` crate uses a rustls with open advisories. [`Connector`] replaces
//! it: tokio-rustls with the roots of the machine. It checks for plain HTTP to another machine once
//! more, because a server can redirect the client to another address.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::client::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error as TlsError, RootCertStore};

use super::metered_stream::{Meter, Metered};
use super::url::{host, is_this_machine};
use crate::error::{Code, Error, Result};

/// Opens connections for the HTTP client.
#[derive(Clone)]
pub(super) struct Connector {
    /// `None` for a remote without TLS.
    tls: Option<Arc<ClientConfig>>,
    /// For name, TCP and TLS together.
    timeout: Duration,
    allow_plain_http: bool,
    meter: Arc<Meter>,
}

/// TLS with the machine's root certificates and those in `extra_pem`.
///
/// # Errors
///
/// [`Usage`](crate::Kind::Usage) if `extra_pem` holds no certificate;
/// [`Refused`](crate::Kind::Refused) if there is no root certificate at all.
pub(super) fn client_config(extra_pem: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(native.certs);
    tracing::debug!(added, ignored, unreadable = native.errors.len(), "root certificates");
    add_extra_roots(&mut roots, extra_pem)?;
    if roots.is_empty() {
        return Err(Error::new(
            Code::NoRootCertificates,
            "this machine has no root certificates, so no server can prove \
                                   who it is",
        )
        .with_hint("install the package ca-certificates, or set SSL_CERT_FILE to a bundle"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::refused("TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Adds the certificates of `pem`, which is empty or holds at least one.
fn add_extra_roots(roots: &mut RootCertStore, pem: &[u8]) -> Result<()> {
    let bad = |why: String| {
        let message = format!("the extra root certificates cannot be used: {why}");
        Error::new(Code::InvalidCertificates, message)
            .with_hint("give a PEM file with at least one -----BEGIN CERTIFICATE-----")
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.len() == before && !pem.is_empty() {
        return Err(bad("there is none".to_owned()));
    }
    Ok(())
}

impl Connector {
    /// Connects within `timeout` (name, TCP and TLS together), and counts the bytes in `meter`.
    /// `tls` is `None` for a remote whose URL asks for no TLS.
    pub(super) fn new(
        tls: Option<Arc<ClientConfig>>,
        timeout: Duration,
        allow_plain_http: bool,
        meter: Arc<Meter>,
    ) -> Connector {
        Connector { tls, timeout, allow_plain_http, meter }
    }

    /// Connects to the server of `uri`.
    async fn connect(&self, uri: &Uri) -> Result<RemoteStream> {
        let secure = uri.scheme_str() == Some("https");
        let host = host(uri);
        if !secure && !self.allow_plain_http && !is_this_machine(host) {
            let message = format!("the remote redirects to {host} without encryption");
            return Err(Error::new(Code::RedirectRefused, message));
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = tcp(host, port, self.timeout).await?;
        // A batch is one write: send it at once.
        stream.set_nodelay(true).map_err(|error| unreachable(host, port, &error))?;
        let stream = Metered::new(stream, Arc::clone(&self.meter));
        if !secure {
            return Ok(RemoteStream::Plain(stream));
        }
        let config = self.tls.clone().ok_or_else(|| {
            let message = format!("the remote redirects to {host} with encryption");
            Error::new(Code::RedirectRefused, message).with_hint("use https:// in the URL")
        })?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            Error::new(Code::InvalidUrl, format!("{host} is not a valid name of a server: {error}"))
        })?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        Ok(RemoteStream::Tls(Box::new(stream.map_err(|error| no_tls(host, port, error))?)))
    }
}

/// Connects to the first of the host's addresses that answers.
async fn tcp(host: &str, port: u16, timeout: Duration) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| {
            Error::new(Code::RemoteUnreachable, format!("cannot find the address of {host}"))
                .with_hint("check the name in the URL, and that this machine is online")
                .with_source(error)
        })?
        .collect();
    // Keep time for the next address: one, often of IPv6, may be dead.
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(unreachable(host, port, &failure))
}

/// The error for a server that TCP does not reach.
fn unreachable(host: &str, port: u16, error: &io::Error) -> Error {
    let (why, hint) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "nothing listens there".to_owned(),
            "check the port in the URL, and that the server is running",
        ),
        io::ErrorKind::TimedOut => {
            ("no answer".to_owned(), "check the network, a firewall, and the port in the URL")
        }
        _ => (error.to_string(), "check that this machine is online"),
    };
    Error::new(Code::RemoteUnreachable, format!("cannot connect to {host}:{port}: {why}"))
        .with_hint(hint)
}

/// The error for a failed TLS handshake.
fn no_tls(host: &str, port: u16, error: io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
    let (code, hint) = match cause {
        Some(TlsError::InvalidCertificate(_)) => (
            Code::CertificateRefused,
            "check the name in the URL, this machine's clock, and whether there is a proxy in \
             between; a private authority's root certificate must be named",
        ),
        Some(TlsError::InvalidMessage(_)) => (
            Code::TlsFailed,
            "the server may not speak TLS on this port: try http:// if it is on this machine",
        ),
        _ => (
            Code::TlsFailed,
            "try again; if this persists, check the network between this machine and the server",
        ),
    };
    Error::new(code, format!("cannot agree on encryption with {host}:{port}: {error}"))
        .with_hint(hint)
        .with_source(error)
}

impl tower_service::Service<Uri> for Connector {
    type Response = RemoteStream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<RemoteStream>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(connector.timeout, connector.connect(&uri)).await;
            let connected = connected.unwrap_or_else(|_| {
                Err(Error::new(Code::RemoteUnreachable, format!("{} does not answer", host(&uri)))
                    .with_hint("check the network, a firewall, and the port in the URL"))
            });
            connected.inspect_err(|error| connector.meter.fail(error.clone()))
        })
    }
}

/// A connection, with TLS or without.
pub(super) enum RemoteStream {
    /// Without.
    Plain(Metered),
    /// With.
    Tls(Box<TlsStream<Metered>>),
}

impl Connection for RemoteStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for RemoteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for RemoteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            RemoteStream::Plain(stream) => stream.is_write_vectored(),
            RemoteStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
