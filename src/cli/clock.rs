//! The command's clock.

use crate::sync::Time;

/// Now, in ms since 1970.
pub(crate) fn now_ms() -> i64 {
    Time::start().now().wall_ms
}
