//! Events and their values: one spelling for each, in SQL as in Rust.

mod spelling;
