//! Sandbox.Shutdown.

use crate::error::Result;
use crate::power;

pub(super) fn run() -> Result<()> {
    power::off()
}
