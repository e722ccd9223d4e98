//! The token that a remote asks for: where it comes from, and what it says of itself.
//!
//! A token comes from the environment or from a file that its owner alone can read, never from a
//! command line, where every process can see it. [`Token`] prints nothing of it and wipes it from
//! memory. Turso's tokens are JSON Web Tokens that say whether they may write and until when they
//! hold; we read that without verifying it, only to tell a person earlier than the remote would.
//!
//! A replica's file names its remote, and a file may come from anybody. So a token of the
//! environment goes to no other host than the one of the URL beside it ([`URL_VARIABLES`]), where
//! there is one.

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

/// The environment variables that are looked at, the first that is set wins.
pub const VARIABLES: [&str; 2] = ["DRIFTLESS_AUTH_TOKEN", "TURSO_AUTH_TOKEN"];

/// The environment variables that may say which remote the token in the one of [`VARIABLES`] at the
/// same place is for: the command sends it nowhere else.
pub const URL_VARIABLES: [&str; 2] = ["DRIFTLESS_REMOTE_URL", "TURSO_DATABASE_URL"];

/// The most bytes of a token, its file included. Turso's have a few hundred, and a web server
/// seldom takes headers beyond 8 KiB or 16 KiB.
const LONGEST: usize = 16 * 1024;

/// A token for a remote. It prints as nothing.
#[derive(Clone)]
pub struct Token(SecretString);

/// What a token says that it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and write.
    Full,
    /// Read only.
    ReadOnly,
    /// It does not say: not a JSON Web Token, or one without the claim.
    Unknown,
}

/// What the environment has for one remote.
#[derive(Debug)]
pub(crate) enum Granted {
    /// A token.
    Token(Token),
    /// No token.
    Nothing,
    /// A token in the variable `token` that is for another remote, by the variable `url`.
    Withheld { token: &'static str, url: &'static str },
}

impl Token {
    /// A token from text. White space around it is taken off.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) if it is empty, or holds what no token holds.
    pub fn new(text: impl AsRef<str>) -> Result<Token> {
        Token::named(text.as_ref(), "the token")
    }

    /// The token in `DRIFTLESS_AUTH_TOKEN` or `TURSO_AUTH_TOKEN`: the first that is set.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) if the one that is set is empty or no token; it is named.
    pub fn from_environment() -> Result<Option<Token>> {
        Token::from_variables(|name| std::env::var_os(name))
    }

    /// What the environment has for the remote at `url`.
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
        // Of the open file and not of the path, so that it cannot be exchanged in between.
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
        // It becomes an HTTP header: a line break in it would become another header.
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(not_a_token(source));
        }
        Ok(Token(SecretString::from(text.to_owned())))
    }

    /// The token itself, for a server that asks for it.
    pub(crate) fn into_secret(self) -> SecretString {
        self.0
    }

    /// The token itself, for the request's header alone.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the token says that it may do. It is not verified: only the remote can do that.
    pub fn access(&self) -> Access {
        match self.claims().as_ref().and_then(|claims| claims.get("a")).and_then(Json::as_str) {
            Some("rw") => Access::Full,
            Some("ro") => Access::ReadOnly,
            _ => Access::Unknown,
        }
    }

    /// Until when the token says that it holds, in seconds since 1970; `None` if it does not say.
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
            format!("the token file {name} can be read or written by others than its owner");
        return Err(
            Error::new(Code::TokenFileExposed, message).with_hint(format!("chmod 600 {name}"))
        );
    }
    Ok(())
}

/// Elsewhere the folder of a user is private by default, and there is no mode to ask for.
#[cfg(not(unix))]
fn require_private(_file: &File, _name: &str) -> Result<()> {
    Ok(())
}

/// Decodes base64 in its URL alphabet, with or without padding; `None` for anything else.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    // An encoder may leave anything in the bits behind the last whole byte.
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
