//! The address of a remote, and which addresses are allowed.
//!
//! Every request carries the token, so the address decides who can read it. [`RemoteUrl`] is an
//! address that was checked: `libsql://` and `https://` to any host, plain `http://` only to this
//! machine unless an option allows more. It has no credentials, so it can be shown and stored.

use std::net::IpAddr;

use hyper::Uri;

use crate::error::{Code, Error, Result};

/// The hint for a token that was found in a URL.
const TOKEN_PLACES: &str = "put the token in DRIFTLESS_AUTH_TOKEN or TURSO_AUTH_TOKEN, or in a file named by \
     --auth-token-file";

/// The hint for a URL that is not valid.
const SPELLING: &str = "a URL looks like libsql://NAME.turso.io or http://127.0.0.1:8080";

/// The address of a remote that the policy allows.
///
/// * It holds no user, password, query or fragment.
/// * If it is plain, then its host is this machine, or the option `allow_plain_http` was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl {
    /// As it was written, without a slash at the end.
    text: String,
    /// With `https` for `libsql`.
    http: String,
    /// Whether the connection is encrypted.
    secure: bool,
}

impl RemoteUrl {
    /// Checks `url`. With `allow_plain_http`, `http://` may lead to any host.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) for another scheme, for plain http to another machine, for
    /// credentials or parameters in the URL, and for text that is not a URL. The message has the
    /// URL without its secrets.
    pub fn parse(url: &str, allow_plain_http: bool) -> Result<RemoteUrl> {
        let url = url.trim();
        let shown = without_secrets(url);
        let scheme = scheme(url, &shown)?;
        reject_secrets(url, &shown)?;

        let secure = scheme != "http";
        let rest = url.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
        let http = format!("{}://{rest}", if secure { "https" } else { "http" });
        let uri: Uri = http.parse().map_err(|error| {
            invalid(format!("{shown} is not a URL: {error}")).with_hint(SPELLING)
        })?;
        let host = host(&uri);
        if host.is_empty() {
            return Err(invalid(format!("the URL {shown} names no host")).with_hint(SPELLING));
        }
        if has_bad_port(&uri) {
            return Err(invalid(format!("the port in {shown} is not a number up to 65535")));
        }
        if !secure && !allow_plain_http && !is_this_machine(host) {
            let message = format!("{shown} would send the token over the network unencrypted");
            return Err(Error::new(Code::UrlUnencrypted, message)
                .with_hint("use libsql:// or https://, or allow it with --allow-plain-http"));
        }
        Ok(RemoteUrl { text: url.trim_end_matches('/').to_owned(), http, secure })
    }

    /// The URL for people and for storing. It holds no secret.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL with `http` or `https` as its scheme.
    pub(super) fn http(&self) -> &str {
        &self.http
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

/// The host and the port of `url`. `None` if it is not the URL of a remote, such as a file's.
pub(super) fn destination(url: &str) -> Option<String> {
    let url = without_secrets(url.trim());
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
        "libsql" | "https" | "wss" => ("https", 443),
        "http" | "ws" => ("http", 80),
        _ => return None,
    };
    let uri: Uri = format!("{scheme}://{rest}").parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    Some(format!("{host}:{}", uri.port_u16().unwrap_or(port)))
}

/// The error for a URL that is not valid.
fn invalid(message: String) -> Error {
    Error::new(Code::InvalidUrl, message)
}

/// The scheme of `url`, if it is supported.
fn scheme(url: &str, shown: &str) -> Result<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid(format!("{shown} is not the URL of a remote")).with_hint(SPELLING));
    };
    let scheme = scheme.to_ascii_lowercase();
    let rest = without_secrets(rest);
    match scheme.as_str() {
        "libsql" | "https" | "http" => Ok(scheme),
        "wss" => Err(invalid(format!("{shown} is a WebSocket URL, which is not supported"))
            .with_hint(format!("use libsql://{rest}"))),
        "ws" => Err(invalid(format!("{shown} is a WebSocket URL, which is not supported"))
            .with_hint(format!("use http://{rest}"))),
        _ => {
            Err(invalid(format!("{shown} has a scheme that is not supported")).with_hint(SPELLING))
        }
    }
}

/// Refuses a URL with a user, a password, parameters or a fragment in it.
fn reject_secrets(url: &str, shown: &str) -> Result<()> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let parameters = || query.split(['&', '#']).filter_map(|pair| pair.split('=').next());
    if authority.contains('@') {
        return Err(Error::new(
            Code::SecretInUrl,
            format!("the URL {shown} has a user or password in it"),
        )
        .with_hint(TOKEN_PLACES));
    }
    if parameters().any(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("token") || name.contains("jwt") || name.contains("key")
    }) {
        return Err(Error::new(Code::SecretInUrl, format!("the URL {shown} has a token in it"))
            .with_hint(TOKEN_PLACES));
    }
    if parameters().any(|name| name.eq_ignore_ascii_case("tls")) {
        return Err(invalid(format!("the URL {shown} has the parameter tls"))
            .with_hint("use http:// for a connection without TLS, https:// for one with it"));
    }
    if rest.contains(['?', '#']) {
        return Err(invalid(format!("the URL {shown} has parameters, which are not supported"))
            .with_hint("leave out everything from the first ? or # on"));
    }
    Ok(())
}

/// `url` without a user, a password, parameters or a fragment.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // The part after the last @ of the whole rest: a password may contain a slash.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}{rest}")
}

/// The host of `uri`, an IPv6 address without its brackets.
pub(super) fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether the port is not a number. `Uri` accepts any text.
fn has_bad_port(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return true };
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    after_host.starts_with(':') && authority.port_u16().is_none_or(|port| port == 0)
}

/// Whether `host` is this machine, so that requests do not reach a network.
pub(super) fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[track_caller]
    fn refused(url: &str, message: &str, hint: &str) {
        let error = RemoteUrl::parse(url, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message().contains(message), "{url}: {error:?}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{url}: {error:?}");
        assert!(!format!("{error:?}").contains("s3cret"), "{url}: {error:?}");
    }

    #[test]
    fn libsql_and_https_lead_anywhere() {
        for (url, http) in [
            ("libsql://gym.turso.io", "https://gym.turso.io"),
            ("LIBSQL://gym.turso.io/", "https://gym.turso.io"),
            ("https://gym.example:8443/db", "https://gym.example:8443/db"),
        ] {
            let parsed = RemoteUrl::parse(url, false).unwrap();
            assert_eq!(parsed.http(), http);
            assert!(parsed.is_secure());
            assert_eq!(parsed.as_str(), url.trim_end_matches('/'));
        }
    }

    #[test]
    fn plain_http_leads_to_this_machine_alone() {
        for url in
            ["http://localhost:8080", "http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:80"]
        {
            assert!(!RemoteUrl::parse(url, false).unwrap().is_secure());
        }
        for url in [
            "http://gym.turso.io",
            "http://10.0.0.1:8080",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://[fe80::1]",
            "http://0.0.0.0",
        ] {
            refused(url, url, "--allow-plain-http");
            assert!(RemoteUrl::parse(url, true).is_ok());
        }
    }

    #[test]
    fn one_place_has_many_spellings() {
        let place = Some("gym.turso.io:443".to_owned());
        for url in [
            "libsql://gym.turso.io",
            " https://GYM.turso.io/ ",
            "wss://gym.turso.io:443/x?authToken=s3cret",
            "libsql://ana:s3cret@gym.turso.io",
        ] {
            assert_eq!(destination(url), place, "{url}");
        }
        for url in [
            "http://gym.turso.io",
            "libsql://gym.turso.io:8080",
            "libsql://gym.turso.io.evil.example",
            "libsql://gym.turso.io@evil.example",
            "https://evil.example/gym.turso.io",
        ] {
            assert!(destination(url).is_some_and(|other| Some(other) != place), "{url}");
        }
        for url in ["file:gym.db", "file:///gym.db", ":memory:", "gym.turso.io", "", "https://"] {
            assert_eq!(destination(url), None, "{url}");
        }
    }

    #[test]
    fn websockets_and_other_schemes_are_named_with_what_to_use() {
        refused("wss://gym.turso.io", "WebSocket", "libsql://gym.turso.io");
        refused("ws://localhost:8080", "WebSocket", "http://localhost:8080");
        refused("file:///tmp/gym.db", "file:///tmp/gym.db", "libsql://");
        refused("gym.turso.io", "gym.turso.io", "libsql://");
        refused("", "not the URL", "libsql://");
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_never_shown() {
        refused("libsql://gym.turso.io?authToken=s3cret", "a token in it", "--auth-token-file");
        refused("libsql://gym.turso.io/?a=1&jwt=s3cret", "a token in it", "TURSO_AUTH_TOKEN");
        refused("https://ana:s3cret@gym.example", "user or password", "DRIFTLESS_AUTH_TOKEN");
        refused("wss://ana:s3cret@gym.example?authToken=s3cret", "WebSocket", "libsql://gym");
        refused("libsql://gym.turso.io?tls=0", "tls", "http://");
        refused("libsql://gym.turso.io?x=s3cret", "parameters", "leave out");
        refused("libsql://gym.turso.io#s3cret", "parameters", "leave out");
    }

    #[test]
    fn what_is_no_url_is_said_to_be_none() {
        refused("libsql://", "not a URL", "libsql://");
        refused("https://:443", "names no host", "libsql://");
        refused("https://gym example", "not a URL", "libsql://");
        refused("https://gym.example:99999", "port", "");
        refused("https://gym.example:", "port", "");
        refused("https://[::1", "not a URL", "");
    }
}
