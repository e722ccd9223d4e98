//! The transport: the interface of a remote, and the client for Turso.
//!
//! A [`Remote`] runs one [`Batch`] of SQL statements in one transaction, in one round trip. The
//! protocol needs no more. `protocol` makes the statements.
//!
//! [`Libsql`] is a remote over the network. Its URL has passed a policy ([`RemoteUrl`]). Its
//! credentials are a [`Token`], which never prints its text. Every failure is an [`Error`] whose
//! kind says whether to try again. [`probe()`] tries a URL and a token for a settings page, and
//! reports problems in words.
//!
//! # Caveats
//!
//! * A REAL that comes back as a number may be wrong in its last bit, and infinity comes back as
//!   NULL: Hrana carries numbers as JSON does. For exact values, select text or a BLOB.
//! * The `libsql` crate asks for no rows of a transactional batch, and libSQL server sends them
//!   anyway. A server that sends none cannot be used; [`probe()`] detects it.
//! * The `libsql` crate logs SQL, and so values, at its `trace` level. A subscriber must exclude
//!   that.

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
/// The contract of an implementation. One test suite checks all of them:
///
/// * All statements take effect, or none does. An error means that none did, except for the kind
///   [`Unavailable`](crate::error::Kind::Unavailable): then all may have.
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

    /// Closes connections that are kept between batches. After a change of the network, or after
    /// the machine slept, they may be dead without an error.
    fn forget_connections(&self) {}

    /// Checks for new credentials, for example in a file that has changed. Gives whether there are
    /// any: then a request that was refused may work now. It is called about once a second, and
    /// must not wait for the network.
    fn renew_credentials(&self) -> bool {
        false
    }

    /// A problem of the credentials' source while the ones in use still work.
    fn notice(&self) -> Option<Error> {
        None
    }
}
