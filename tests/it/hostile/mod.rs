//! Hostile input: a remote that answers nonsense, clients of the hub that mean harm, and whatever
//! bytes chance makes.

mod seeded;
mod targets;
