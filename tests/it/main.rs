//! The integration tests: one binary, a module for each thing that is tested.

mod capture;
mod cli;
mod conformance;
mod consequences;
mod drift;
mod failures;
mod failures_identity;
mod failures_rows;
mod failures_scale;
mod failures_schema;
mod first_sync;
mod gym;
mod hostile;
mod hub;
mod names;
mod processes;
mod remote;
mod replicator;
mod sim;
mod store;
mod support;
mod sync;
mod tidy;
mod too_large;
mod tools;
mod verdict;
