//! The integration tests: one binary, a module for each thing that is tested.

mod failures;
mod first_sync;
mod gym;
mod hub;
mod remote;
mod replicator;
mod store;
mod support;
mod tools;
