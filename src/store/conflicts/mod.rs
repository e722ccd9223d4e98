//! The inbox of conflicts: recorded, listed, restored.

pub(super) mod inbox;
pub(super) mod record;
pub(super) mod restore;
pub(super) mod rewrite;
pub(super) mod together;
