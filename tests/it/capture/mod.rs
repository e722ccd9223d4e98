//! Capture: whatever an application writes, by whatever client, the outbox says it exactly.
//!
//! Nearly every test here holds one thing: the outbox, folded onto the rows that were there before,
//! gives the rows that are there now, with their types and their bits ([`fold::Rows::apply`]). The
//! fold is strict. It refuses an insert of a row that it has, an update or a delete of one that it
//! does not have, and a `before` that is not what stood there, so an event too many is found like an
//! event too few.
//!
//! * [`desk`] is an application's database and the reader of its outbox.
//! * [`scripts`] runs the golden scripts of `fixtures/scripts/capture`, one or more for each rule.
//! * [`clients`] has the same writes made by the stock `sqlite3` program and by Python.
//! * [`property`] makes tables, values and statements at random.
//! * [`plans`] has no trigger read a whole table.
//!
//! # Caveats
//!
//! The one value that is not compared by its bits is −0.0, which arrives as 0.0 (see
//! `src/event/value.rs`).

mod clients;
pub(crate) mod desk;
pub(crate) mod fold;
mod functions;
mod oldest;
mod plans;
pub(crate) mod property;
mod scripts;
