//! Synchronising, end to end: desks, a web application and the remote between them.
//!
//! * [`world`] is all of them together, with deterministic output.
//! * [`scripts`] runs the golden scripts over it: one or more for each rule of the protocol.
//! * [`roundtrip`] makes tables and values at random and has them go from one desk to another.
//! * [`culprits`] finds what is to blame for a refused push, [`consequences`] tells what a foreign key
//!   did from what a person did, and [`drift`] has definitions that change under way.
//! * [`machine`] runs the golden scripts of the machine alone, which fix each of its effects;
//!   [`waits`] and [`coincidences`] drive it by hand.
//! * [`adoption`] is what is said before a first sync, and which version of a row is taken.
//! * [`ahead`] has a push that is read while another one is under way.
//! * [`echoes`] has own events that come back without their values.
//! * [`first_sync`] is the first sync, and what `init` refuses and says.
//! * [`found`] has what random tables have found.
//! * [`changes`] is what a subscriber is told of changed rows.
//! * [`stale`] has a schema of the remote that changes under a push.
//! * [`upgrade`] has a remote and a replica that version 0.1 left.
//! * [`members`] has tables that join the replicated ones, and leave them.
//! * [`not_guaranteed`] has what does not arrive as it was.
//! * [`verify`] compares a replica with its remote.

mod adoption;
mod ahead;
mod changes;
mod coincidences;
mod consequences;
mod culprits;
mod drift;
mod echoes;
mod first_sync;
mod found;
mod machine;
mod members;
mod not_guaranteed;
mod roundtrip;
mod scripts;
mod stale;
mod upgrade;
mod verify;
mod waits;
mod world;
