//! The integration tests: one binary, a module for each thing that is tested.

mod gym;
mod hub;
mod remote;
mod tools;
mod verdict;
