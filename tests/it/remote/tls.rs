//! Encrypted connections, with an authority made for the test.

use std::sync::Arc;

use driftless::remote::{Libsql, Options, Remote, Token};
use driftless::{Code, Kind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::reads;
use super::server::{Reply, Server};

/// A server for the name `localhost`, and its authority's certificate in PEM.
async fn server() -> (Server, Vec<u8>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start_tls(acceptor, |_, _| Reply::rows(&[json!([])])).await;
    (server, root.pem().into_bytes())
}

fn client(url: &str, root: Vec<u8>) -> Libsql {
    let options = Options { root_certificates: root, ..Options::default() };
    Libsql::connect(url, Some(Token::new("s3cret").unwrap()), options).unwrap()
}

#[tokio::test]
async fn an_authority_that_is_trusted() {
    let (server, root) = server().await;
    for scheme in ["https", "libsql"] {
        let remote = client(&format!("{scheme}://localhost:{}", server.port), root.clone());
        let first = remote.run(reads(&["SELECT 1"])).await.unwrap();
        let second = remote.run(reads(&["SELECT 1"])).await.unwrap();
        // The first one pays for the handshake.
        assert!(first.bytes_up > second.bytes_up && second.bytes_up > 0);
        assert!(first.bytes_down > second.bytes_down && second.bytes_down > 0);
    }
    assert_eq!((server.connections(), server.requests().len()), (2, 4));
}

#[tokio::test]
async fn an_authority_that_is_not_trusted() {
    let (server, _) = server().await;
    let (_, other_root) = self::server().await;
    let remote = client(&format!("https://localhost:{}", server.port), other_root);
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::CertificateRefused, "{error:?}");
    assert!(server.requests().is_empty(), "the token was sent to a stranger");
}

#[tokio::test]
async fn a_certificate_of_another_name() {
    let (server, root) = server().await;
    let remote = client(&format!("https://127.0.0.1:{}", server.port), root);
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::CertificateRefused, "{error:?}");
    assert!(server.requests().is_empty(), "the token was sent to a stranger");
}

#[tokio::test]
async fn tls_on_one_side_alone() {
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = plain.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let (server, root) = server().await;
    let remote = client(&format!("https://localhost:{port}"), root);
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::TlsFailed, "{error:?}");

    let url = format!("http://localhost:{}", server.port);
    let remote = Libsql::connect(&url, None, Options::default()).unwrap();
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Unavailable | Kind::Refused), "{error:?}");
}

#[test]
fn roots_that_are_none() {
    for pem in [&b"not PEM"[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        let options = Options { root_certificates: pem.to_vec(), ..Options::default() };
        let error = Libsql::connect("https://localhost", None, options).unwrap_err();
        assert_eq!(error.code(), Code::InvalidCertificates, "{error:?}");
    }
}
