//! One exchange with the remote: what is sent, what comes back, and what it proves. Pure.
//!
//! This layer makes SQL and reads results. It opens no connection, reads no clock and draws no
//! random number; the [`remote`](crate::remote) layer sends its statements, and
//! [`sync`](crate::sync) decides when. So the whole protocol can be tested against any SQLite
//! database, and run in a simulation.
//!
//! # One exchange
//!
//! A [`Statement`] is one SQL text with its arguments. A [`Batch`] is a list of statements that the
//! remote runs in one transaction, and an [`Answer`] has the rows of each. An
//! [`Exchange`](statements::Exchange) is the usual request: it pushes, pulls and asks for the
//! remote's identity at once, and reads its answer into a [`Reply`](statements::Reply).
//! `statements.rs` puts it together from
//!
//! * [`incarnation`]: the incarnations and places by which a replica recognises its remote, and the
//!   remote a copied file;
//! * [`Push`] and [`Outgoing`]: the events, as the store hands them over, and `payload.rs`, which
//!   packs them into one JSON text;
//! * [`push`]: the statements that judge the events and write them into the remote's tables;
//! * `log_range.rs`: the page of the log that comes back, in a form without repetitions;
//! * `staged.rs`: the parts of a push that is larger than a request.
//!
//! # Other requests
//!
//! * [`idle_poll`]: the cheap poll of an idle replica.
//! * [`compare`]: the rows of both sides compared by hashes of ranges, for `verify`.
//! * [`remote_tables`]: the remote's definitions, for which a push is planned. Every push proves
//!   that they are still valid.
//!
//! # Invariants
//!
//! * A value is an argument and never part of an SQL text. Names of tables and columns are quoted.
//! * Every request carries the replica's newest place in the log, so an answer from another
//!   database, or from an earlier state of this one, is recognised.
//! * A push takes effect as a whole or not at all. Sending it again changes nothing, because events
//!   are recognised by their ids.
//! * The statements run on libSQL's SQLite and on the Turso engine.
//!
//! # Caveats
//!
//! * The remote is trusted for verdicts only. Everything that it sends is checked before it is
//!   used, because a hostile remote may send anything.
//! * `docs/protocol.md` describes the same for the writer of another implementation, and has what
//!   this layer leaves to the others.

pub use self::exchange::{Answer, Batch, Rows};
pub mod compare;
mod exchange;
pub mod idle_poll;
pub mod incarnation;
pub(crate) mod log_range;
pub(crate) mod meta;
mod outgoing;
pub(crate) mod payload;
pub mod push;
pub mod remote_tables;
pub(crate) mod staged;
mod statement;
pub mod statements;

pub use self::log_range::{Held, Lean};
pub use self::outgoing::{Outgoing, Push};
pub use self::statement::Statement;
pub(crate) use self::statement::text;
