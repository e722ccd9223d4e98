//! One exchange with the remote, in words: what is pushed, and the statements that it travels in.

mod outgoing;
mod statement;

pub use self::outgoing::{Outgoing, Push};
pub use self::statement::Statement;
pub(crate) use self::statement::text;
