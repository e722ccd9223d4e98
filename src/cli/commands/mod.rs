//! The commands, one in each file.

pub(super) mod audit;
pub(super) mod conflicts;
#[cfg(feature = "hub")]
pub(super) mod hub;
pub(super) mod init;
pub(super) mod log;
pub(super) mod quarantine;
pub(super) mod remote;
pub(super) mod returned;
pub(super) mod run;
pub(super) mod status;
pub(super) mod sync;
pub(super) mod upkeep;
