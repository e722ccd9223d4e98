//! Hostile input: a remote that answers nonsense, clients of the hub that mean harm, and whatever
//! bytes chance makes.

mod answers;
mod file;
mod hub;
mod lies;
mod property;
mod seeded;
mod targets;
mod wire;
