//! The integration tests: one binary, a module for each thing that is tested.

mod capture;
mod consequences;
mod failures;
mod gym;
mod histories;
mod hub;
mod remote;
mod store;
mod support;
mod sync;
mod tools;
