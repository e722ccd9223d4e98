//! Synchronising, end to end: desks, a web application and the remote between them.
//!
//! * [`world`] is all of them together, with deterministic output.
//! * [`scripts`] runs the golden scripts beside it: one or more for each rule of the protocol.
//! * [`machine`] runs the golden scripts of the machine alone, which fix each of its effects.
//! * [`roundtrip`] makes tables and values at random and has them go from one desk to another.

mod machine;
mod roundtrip;
mod scripts;
mod world;
