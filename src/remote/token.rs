//! The token of a remote: its sources and its claims.
//!
//! A token comes from the environment, or from a file that only its owner can read. It never comes
//! from the command line, which every process can see. [`Token`] never prints its text and wipes it
//! from memory. Turso's tokens are JSON Web Tokens: they claim whether they may write, and until
//! when they are valid. We read the claims without verifying them, to warn a person before the
//! remote does.
//!
//! A replica's file has its remote's URL, and a file may come from anybody. If the environment has
//! a URL beside its token ([`URL_VARIABLES`]), the token is sent only to that URL's host.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;

use super::url::destination;
use crate::error::{Code, Error, Result};

/// The environment variables of a token. The first that is set is used.
pub const VARIABLES: [&str; 2] = ["DRIFTLESS_AUTH_TOKEN", "TURSO_AUTH_TOKEN"];

/// The environment variables of the remote's URL, in the order of [`VARIABLES`]. If one is set, the
/// command sends the token in its counterpart only to that URL's host.
pub const URL_VARIABLES: [&str; 2] = ["DRIFTLESS_REMOTE_URL", "TURSO_DATABASE_URL"];

/// The most bytes of a token, and of its file. Turso's have a few hundred, and web servers rarely
/// accept headers of more than 8 or 16 KiB.
const LONGEST: usize = 16 * 1024;

/// A token for a remote. Its text is never printed.
#[derive(Clone)]
pub struct Token(SecretString);

/// The access that a token claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and write.
    Full,
    /// Read only.
    ReadOnly,
    /// Not known: it is not a JSON Web Token, or has no such claim.
    Unknown,
}

/// The environment's token for one remote.
#[derive(Debug)]
pub(crate) enum Granted {
    /// A token.
    Token(Token),
    /// No token.
    Nothing,
    /// The variable `token` has a token, but the variable `url` says that it is for another remote.
    Withheld { token: &'static str, url: &'static str },
}

impl Token {
    /// A token from text. White space around it is removed.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) if it is empty, or has characters that no token has.
    pub fn new(text: impl AsRef<str>) -> Result<Token> {
        Token::named(text.as_ref(), "the token")
    }

    /// The token in `DRIFTLESS_AUTH_TOKEN` or `TURSO_AUTH_TOKEN`: the first that is set.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage), with the variable's name, if it is empty or not a token.
    pub fn from_environment() -> Result<Option<Token>> {
        Token::from_variables(|name| std::env::var_os(name))
    }

    /// The environment's token for the remote at `url`.
    ///
    /// # Errors
    ///
    /// As for [`Token::from_environment`].
    pub(crate) fn for_remote(url: &str) -> Result<Granted> {
        Token::granted(url, |name| std::env::var_os(name))
    }

    /// The same for any source of variables.
    fn granted(url: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Granted> {
        let Some(token) = Token::from_variables(&variable)? else { return Ok(Granted::Nothing) };
        let first =
            VARIABLES.into_iter().zip(URL_VARIABLES).find(|(name, _)| variable(name).is_some());
        let (of_token, of_url) = first.expect("a token came of one of them");
        let named = variable(of_url).and_then(|text| destination(text.to_str()?));
        Ok(match named {
            Some(named) if destination(url).as_ref() != Some(&named) => {
                Granted::Withheld { token: of_token, url: of_url }
            }
            _ => Granted::Token(token),
        })
    }

    /// The token, from any source of variables.
    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Token>> {
        for name in VARIABLES {
            if let Some(text) = variable(name) {
                let text = text.into_string().map_err(|_| not_a_token(name))?;
                return Token::named(&text, name).map(Some);
            }
        }
        Ok(None)
    }

    /// The token in a file: its only line.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) if the file cannot be read, is empty, holds no token, or, on
    /// Unix, if anyone but its owner may read or write it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Token> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let cannot_read = |error: std::io::Error| {
            let message = format!("cannot read the token file {name}: {error}");
            Error::new(Code::TokenFileUnreadable, message)
        };
        let mut file = File::open(path).map_err(cannot_read)?;
        // Check the open file, not the path: the path could be exchanged in between.
        require_private(&file, &name)?;
        let mut text = String::new();
        let read = file.by_ref().take(LONGEST as u64 + 1).read_to_string(&mut text);
        match read {
            Ok(_) => Token::named(&text, &format!("the token file {name}")),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(not_a_token(&format!("the token file {name}")))
            }
            Err(error) => Err(cannot_read(error)),
        }
    }

    /// Checks `text`, which came from `source`.
    fn named(text: &str, source: &str) -> Result<Token> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::new(Code::InvalidToken, format!("{source} is empty"))
                .with_hint("create a token with: turso db tokens create NAME"));
        }
        // The token becomes an HTTP header: a line break would start another header.
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(not_a_token(source));
        }
        Ok(Token(SecretString::from(text.to_owned())))
    }

    /// The token itself, for a server that asks for it.
    pub(crate) fn into_secret(self) -> SecretString {
        self.0
    }

    /// The token itself, only for the request's header.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The access that the token claims. Only the remote can verify it.
    pub fn access(&self) -> Access {
        match self.claims().as_ref().and_then(|claims| claims.get("a")).and_then(Json::as_str) {
            Some("rw") => Access::Full,
            Some("ro") => Access::ReadOnly,
            _ => Access::Unknown,
        }
    }

    /// The end of the token's validity as it claims, in seconds since 1970; `None` without the
    /// claim.
    pub fn expires_at(&self) -> Option<i64> {
        let claims = self.claims()?;
        let expiry = claims.get("exp")?;
        // The standard allows a fraction.
        expiry.as_i64().or_else(|| expiry.as_f64().map(|seconds| seconds as i64))
    }

    /// The claims of a JSON Web Token.
    fn claims(&self) -> Option<Json> {
        let mut parts = self.expose().split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let claims: Json = serde_json::from_slice(&decode_base64url(payload)?).ok()?;
        claims.is_object().then_some(claims)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The error for text that cannot be a token, without the text.
fn not_a_token(source: &str) -> Error {
    Error::new(Code::InvalidToken, format!("{source} does not hold a token"))
        .with_hint("a token is one line of letters, digits and punctuation, without spaces")
}

/// Refuses a file that others may read or write.
#[cfg(unix)]
fn require_private(file: &File, name: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = file.metadata().map_err(|error| {
        let message = format!("cannot read the permissions of the token file {name}: {error}");
        Error::new(Code::TokenFileUnreadable, message)
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let message =
            format!("the token file {name} can be read or written by users other than its owner");
        return Err(
            Error::new(Code::TokenFileExposed, message).with_hint(format!("chmod 600 {name}"))
        );
    }
    Ok(())
}

/// Other systems have no mode, and a user's folder is private by default.
#[cfg(not(unix))]
fn require_private(_file: &File, _name: &str) -> Result<()> {
    Ok(())
}

/// Decodes base64 in its URL alphabet, with or without padding; `None` for anything else.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    // An encoder may leave any bits after the last whole byte.
    let lenient = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(
        &URL_SAFE,
        lenient.with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    engine.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// `{"alg":"EdDSA"}` and the claims that are named, in base64url.
    const READ_ONLY: &str = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicm8iLCJleHAiOjE3MDAwMDAwMDB9.c2ln";
    const FULL: &str = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicnciLCJleHAiOjE3MDAwMDAwMDAuNX0.c2ln";
    const SILENT: &str = "eyJhbGciOiJFZERTQSJ9.eyJpZCI6IngifQ.c2ln";

    #[test]
    fn a_token_says_what_it_may_do_and_for_how_long() {
        for (text, access, expires_at) in [
            (READ_ONLY, Access::ReadOnly, Some(1_700_000_000)),
            (FULL, Access::Full, Some(1_700_000_000)),
            (SILENT, Access::Unknown, None),
            ("not-a-jwt", Access::Unknown, None),
            ("a.b.c", Access::Unknown, None),
            ("x.!!.y", Access::Unknown, None),
        ] {
            let token = Token::new(text).unwrap();
            assert_eq!((token.access(), token.expires_at()), (access, expires_at), "{text}");
        }
    }

    #[test]
    fn claims_are_read_in_every_spelling_of_base64url() {
        let bytes = |text| decode_base64url(text);
        for text in ["-_8", "-_8=", "-_8==", "-_9"] {
            assert_eq!(bytes(text).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert_eq!(bytes(""), Some(Vec::new()));
        for text in ["A", "-_8-A", "+/8", "-_ 8", "-=8", "é"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_token() {
        assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token(…)");
    }

    #[test]
    fn what_cannot_be_a_header_is_no_token() {
        for text in ["", " \n", "two words", "line\nbreak", "ümlaut", &"x".repeat(LONGEST + 1)] {
            let error = Token::new(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(text.trim().is_empty() || !format!("{error:?}").contains(text));
        }
        assert_eq!(Token::new(" s3cret\r\n").unwrap().expose(), "s3cret");
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let both = |name: &str| Some(OsString::from(format!("from-{name}")));
        let token = Token::from_variables(both).unwrap().unwrap();
        assert_eq!(token.expose(), "from-DRIFTLESS_AUTH_TOKEN");
        let second = |name: &str| (name == "TURSO_AUTH_TOKEN").then(|| OsString::from("second"));
        assert_eq!(Token::from_variables(second).unwrap().unwrap().expose(), "second");
        assert!(Token::from_variables(|_| None).unwrap().is_none());
        let error = Token::from_variables(|_| Some(OsString::new())).unwrap_err();
        assert_eq!(error.code(), Code::InvalidToken, "{error:?}");
        assert!(error.message().contains("DRIFTLESS_AUTH_TOKEN"), "{error:?}");
    }

    #[test]
    fn a_token_goes_to_the_remote_beside_it_alone() {
        let granted = |set: &[(&str, &str)]| {
            let value = |name: &str| {
                let found = set.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| OsString::from(value))
            };
            match Token::granted("https://gym.turso.io/", value).unwrap() {
                Granted::Token(token) => token.expose().to_owned(),
                Granted::Nothing => "nothing".to_owned(),
                Granted::Withheld { token, url } => format!("{token} is for {url}"),
            }
        };
        let (ours, turso) = (("DRIFTLESS_AUTH_TOKEN", "t"), ("TURSO_AUTH_TOKEN", "u"));
        let (here, there) = ("libsql://gym.turso.io", "libsql://shop.turso.io");
        assert_eq!(granted(&[("TURSO_DATABASE_URL", here)]), "nothing");
        assert_eq!(granted(&[turso]), "u");
        assert_eq!(granted(&[turso, ("TURSO_DATABASE_URL", here)]), "u");
        assert_eq!(granted(&[turso, ("TURSO_DATABASE_URL", "file:gym.db")]), "u");
        let withheld = "TURSO_AUTH_TOKEN is for TURSO_DATABASE_URL";
        assert_eq!(granted(&[turso, ("TURSO_DATABASE_URL", there)]), withheld);
        assert_eq!(granted(&[ours, turso, ("TURSO_DATABASE_URL", there)]), "t");
        let withheld = "DRIFTLESS_AUTH_TOKEN is for DRIFTLESS_REMOTE_URL";
        assert_eq!(granted(&[ours, turso, ("DRIFTLESS_REMOTE_URL", there)]), withheld);
    }

    #[cfg(unix)]
    #[test]
    fn a_token_file_must_be_private() {
        use std::fs::{Permissions, set_permissions, write};
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "s3cret\n").unwrap();
        for mode in [0o644, 0o640, 0o602] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Token::from_file(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.message().contains(path.to_str().unwrap()), "{error:?}");
            assert_eq!(error.code(), Code::TokenFileExposed, "{error:?}");
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Token::from_file(&path).unwrap().expose(), "s3cret");

        write(&path, "\n").unwrap();
        assert_eq!(Token::from_file(&path).unwrap_err().code(), Code::InvalidToken);
        write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(Token::from_file(&path).unwrap_err().code(), Code::InvalidToken);
        let missing = Token::from_file(folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), Kind::Usage);
        assert_eq!(missing.code(), Code::TokenFileUnreadable, "{missing:?}");
    }
}
