//! The panic device: one register by which a guest kernel says that it crashed (QEMU
//! `docs/specs/pvpanic.rst`).

use std::ops::ControlFlow;

use vmm_api::MachineEnd;

use crate::bus::Registers;

/// The only event that is taken: the kernel panicked and nothing will handle it.
const PANICKED: u8 = 1;

/// The device's single register.
#[derive(Debug)]
pub(crate) struct PvPanic;

impl Registers for PvPanic {
    /// Tells the events that are taken.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let [first, ..] = data {
            *first = PANICKED;
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) -> ControlFlow<MachineEnd> {
        match data {
            [events, ..] if events & PANICKED != 0 => ControlFlow::Break(MachineEnd::Panic),
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_ends_the_machine_and_other_events_do_not() {
        let mut events = [0];
        PvPanic.read(0, &mut events);
        assert_eq!(events, [PANICKED]);
        assert_eq!(PvPanic.write(0, &events), ControlFlow::Break(MachineEnd::Panic));
        assert!(PvPanic.write(0, &[2]).is_continue());
    }
}
