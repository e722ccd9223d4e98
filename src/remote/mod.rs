//! The remote: what a replica asks of it, and the client that speaks to Turso.
//!
//! A [`Remote`] runs one [`Batch`] of SQL statements in one transaction, in one round trip; that is
//! all that the protocol needs. What the statements say is decided elsewhere.
//!
//! [`Libsql`] is the remote over the network. Its URL has passed a policy ([`RemoteUrl`]), its
//! credentials are a [`Token`] that never shows, and every failure arrives as an
//! [`Error`] whose kind says whether to try again. [`probe()`] tries a URL and a
//! token for a settings page and says what is wrong in words.
//!
//! # Caveats
//!
//! * A REAL that comes back as a number may be off in its last bit, and infinity comes back as
//!   NULL: Hrana carries numbers as JSON does. Whoever needs them exact asks for text or a BLOB.
//! * libsql asks for no rows of a transactional batch, and libSQL server sends them all the same.
//!   A server that takes the wish literally is of no use here; [`probe()`] notices.
//! * libsql prints SQL, and so values, at its `trace` level. A subscriber must leave that out.

mod credentials;
mod failure;
mod libsql;
mod metered_stream;
mod pipeline;
mod probe;
mod tls;
mod token;
mod url;

use std::future::Future;
use std::pin::Pin;

pub use self::credentials::Credentials;
pub(crate) use self::failure::missing_table_of;
#[cfg(any(test, feature = "internals"))]
pub use self::failure::rejected;
pub use self::libsql::{Libsql, Options};
pub use self::probe::{Aspect, Finding, Level, ProbeReport, probe};
pub(crate) use self::token::Granted;
pub use self::token::{Access, Token, URL_VARIABLES, VARIABLES};
pub use self::url::RemoteUrl;
pub use crate::protocol::{Answer, Batch, Rows, Statement};

use crate::error::{Error, Result};

/// A future that a [`Remote`] returns.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// A database that can run a [`Batch`].
///
/// The implementer's contract, which one suite holds every implementation to:
///
/// * All statements take effect, or none does. An error means that none did, except one of kind
///   [`Unavailable`](crate::error::Kind::Unavailable), after which they may have.
/// * A batch without statements is a [`Usage`](crate::error::Kind::Usage) error.
/// * A statement that fails (constraint, trigger, syntax) is
///   [`Rejected`](crate::error::Kind::Rejected), with the server's message.
/// * A request or an answer over the server's size limit is
///   [`TooLarge`](crate::error::Kind::TooLarge).
/// * Bad credentials, or credentials that may not write, are
///   [`Refused`](crate::error::Kind::Refused).
/// * It returns within its time limit, and it does not panic.
/// * A future that is dropped leaves the remote usable.
#[allow(unnameable_types, reason = "as `Batch`")]
pub trait Remote: Send + Sync {
    /// Runs `batch`.
    fn run(&self, batch: Batch) -> Pending<'_>;

    /// The URL, without credentials, for people to read.
    fn url(&self) -> String;

    /// Gives up connections that are kept between batches: the network has changed, or the machine
    /// was asleep, and what was alive may be dead without having said so.
    fn forget_connections(&self) {}

    /// Looks whether there are other credentials than before, for example because their file has
    /// changed. Gives whether there are: then what was refused may work now. It is called once a
    /// second or so, and must not wait for the network.
    fn renew_credentials(&self) -> bool {
        false
    }

    /// What is wrong with the credentials although the ones in use are good.
    fn notice(&self) -> Option<Error> {
        None
    }
}
