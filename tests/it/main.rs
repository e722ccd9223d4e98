//! The integration tests: one binary, a module for each thing that is tested.

mod capture;
mod failures;
mod gym;
mod histories;
mod hub;
mod remote;
mod store;
mod support;
mod tidy;
mod tools;
mod verdict;
