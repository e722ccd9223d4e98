//! What is fuzzed: one function a target, which takes any bytes and panics where something is
//! wrong. `fuzz/` has the same files.

pub(crate) mod ddl;
pub(crate) mod frame;
pub(crate) mod hrana;
pub(crate) mod page;
