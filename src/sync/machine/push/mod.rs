//! What is pushed.

pub(in crate::sync) mod bisect;
pub(in crate::sync) mod staging;
