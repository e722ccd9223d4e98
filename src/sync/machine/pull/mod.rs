//! What is pulled.

pub(in crate::sync) mod chunks;
pub(in crate::sync) mod pages;
