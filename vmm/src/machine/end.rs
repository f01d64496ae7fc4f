//! The ordered end of a machine.

use super::run::Machine;

impl Machine {
    /// Stops and joins all vCPU threads, then resets every device, the last attached first: each
    /// finishes what it has taken from its queues, and its worker is joined. When this returns,
    /// nothing touches the guest's memory or a disk any more.
    pub(crate) fn end(self) {
        self.vcpus.end();
        self.windows.clear();
    }
}
