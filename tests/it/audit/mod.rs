//! Questions to the log, against a model that remembers every state.

mod index;
mod model;
mod past;
mod revert;
