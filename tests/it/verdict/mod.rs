//! The remote's SQL: what the inbox decides, what it writes, and what it captures.
//!
//! `scripts/` has a golden script for each rule; `agree` holds the pure conflict rule and its SQL
//! equal; `histories` folds the log of random histories; `turso` runs it all on the Turso engine.

mod golden;
mod remote;
