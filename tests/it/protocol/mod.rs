//! The protocol, where it has to part what it carries: what must travel together, events that are
//! too large for a request, and events that are too large for an answer.

mod chunks;
mod groups;
mod too_large;
