//! The integration tests: one binary, a module for each thing that is tested.

mod failures;
mod gym;
mod hub;
mod remote;
mod support;
mod store;
mod tools;
