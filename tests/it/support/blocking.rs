//! The blocking calls, without anybody who watches.

use std::sync::Arc;

use driftless::Result;
use driftless::remote::Remote;
use driftless::store::Store;
use driftless::sync::{Plan, Report, Summary};

pub(crate) fn initialise(plan: Plan, remote: Arc<dyn Remote>) -> Result<(Store, Report)> {
    driftless::sync::initialise(plan, remote, &mut |_| {})
}

pub(crate) fn drain(store: Store, remote: Arc<dyn Remote>) -> Result<Summary> {
    driftless::sync::drain(store, remote, &mut |_| {})
}
