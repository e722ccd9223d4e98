//! The integration tests: one binary, so that it is linked once.

mod gym;
mod tools;
