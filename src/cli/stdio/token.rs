//! The token of a request.

use std::path::PathBuf;

use super::message::Failure;
use super::params::Params;
use crate::cli::session::Session;
use crate::error::Result;
use crate::remote::{Credentials, Token};

/// The parameters `token` and `token_file`, of which one may be given.
pub(super) struct GivenToken {
    text: Option<String>,
    file: Option<PathBuf>,
}

impl GivenToken {
    /// Takes them.
    ///
    /// # Errors
    ///
    /// If both are given, or one is of another type.
    pub(super) fn take(params: &mut Params) -> std::result::Result<GivenToken, Failure> {
        let given =
            GivenToken { text: params.option("token")?, file: params.option("token_file")? };
        match given {
            GivenToken { text: Some(_), file: Some(_) } => {
                Err(params.wrong("token_file", "cannot be given together with a `token`"))
            }
            given => Ok(given),
        }
    }

    /// Where the token comes from. Without the parameters: from the options and the environment of
    /// the process.
    ///
    /// # Errors
    ///
    /// `Usage` when a text is no token.
    pub(super) fn credentials(self, session: &Session, url: &str) -> Result<Credentials> {
        match (self.text, self.file) {
            (Some(text), _) => Ok(token(&text)?.into()),
            (None, Some(file)) => Ok(Credentials::file(file)),
            (None, None) => session.credentials(url),
        }
    }
}

/// A token, or none if the text is empty.
///
/// # Errors
///
/// `Usage` when it has characters that no token has.
pub(super) fn token(text: &str) -> Result<Option<Token>> {
    if text.is_empty() { Ok(None) } else { Token::new(text).map(Some) }
}
