//! The catalog: which tables can be replicated, and under which names.

mod names;
mod tables;
