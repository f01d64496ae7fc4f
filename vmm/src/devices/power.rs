//! The registers by which a guest ends itself: ACPI reset, sleep control and sleep status
//! (ACPI 6.5 §4.8.3.6, §4.8.3.7).

use std::ops::ControlFlow;

use vmm_api::MachineEnd;

use crate::arch::x86_64::layout;
use crate::bus::Registers;

/// Sleep control: the guest wants to sleep now.
const SLEEP_ENABLE: u8 = 1 << 5;

/// Sleep control: position and width of the sleep type.
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;

/// All ports from the reset register to the sleep status register.
#[derive(Debug)]
pub(crate) struct Power;

impl Power {
    /// The ports that the registers take.
    pub(crate) fn ports() -> std::ops::Range<u64> {
        layout::RESET_PORT.into()..u64::from(layout::SLEEP_STATUS_PORT) + 1
    }
}

impl Registers for Power {
    /// No register here has a bit to read: nothing ever sleeps and wakes.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) -> ControlFlow<MachineEnd> {
        const RESET: u64 = 0;
        const SLEEP_CONTROL: u64 = (layout::SLEEP_CONTROL_PORT - layout::RESET_PORT) as u64;
        let off = SLEEP_ENABLE | layout::SLEEP_TYPE_S5 << SLEEP_TYPE_SHIFT;
        let asked = SLEEP_ENABLE | SLEEP_TYPE_MASK << SLEEP_TYPE_SHIFT;
        match (offset, data) {
            (RESET, [layout::RESET_VALUE]) => ControlFlow::Break(MachineEnd::Reset),
            (SLEEP_CONTROL, [value]) if value & asked == off => {
                ControlFlow::Break(MachineEnd::PowerOff)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_s5_powers_off() {
        assert_eq!(Power.write(4, &[0x20 | 5 << 2]), ControlFlow::Break(MachineEnd::PowerOff));
        assert!(Power.write(4, &[0x20 | 3 << 2]).is_continue());
        assert!(Power.write(4, &[5 << 2]).is_continue());
        assert!(Power.write(5, &[0x20 | 5 << 2]).is_continue());
    }

    #[test]
    fn reset_takes_its_value_in_one_byte() {
        assert_eq!(Power.write(0, &[1]), ControlFlow::Break(MachineEnd::Reset));
        assert!(Power.write(0, &[0]).is_continue());
        assert!(Power.write(0, &[1, 0]).is_continue());
    }
}
