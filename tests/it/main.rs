//! The integration tests: one binary, a module for each thing that is tested.

mod capture;
mod cli;
mod conformance;
mod consequences;
mod drift;
mod failures;
mod failures_rows;
mod failures_scale;
mod failures_schema;
mod first_sync;
mod gym;
mod histories;
mod hostile;
mod hub;
mod remote;
mod replicator;
mod store;
mod support;
mod sync;
mod tidy;
mod tools;
mod verdict;
