//! Whether a replica and its remote are what they must be.

pub(in crate::sync) mod tables;
