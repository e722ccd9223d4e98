//! One exchange with the remote, in words: what is pushed, and the statements that it travels in.

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
