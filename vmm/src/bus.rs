//! Dispatch of a vCPU's accesses to devices by address. The bus knows ranges, not devices.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use vmm_api::MachineEnd;

/// Something with registers. Accesses come from all vCPUs, with any offset inside the range
/// and any length from 1 byte to a page, which string instructions bring, and must not panic.
pub(crate) trait Registers: Send + Sync {
    /// Reads at `offset`; `data` is filled with ones if nothing else is known.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Writes at `offset`. Breaking says that the machine ends with this access.
    fn write(&self, offset: u64, data: &[u8]) -> ControlFlow<MachineEnd>;
}

/// One address space: I/O ports or memory.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    devices: Vec<(Range<u64>, Arc<dyn Registers>)>,
}

impl Bus {
    /// Adds a device; ranges must not overlap (the address table makes sure of that).
    pub(crate) fn add(&mut self, range: Range<u64>, device: Arc<dyn Registers>) {
        self.devices.push((range, device));
    }

    /// Reads; where nothing is, the guest reads ones, as on a PC.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address) {
            device.read(offset, data);
        }
    }

    /// Writes; where nothing is, nothing happens.
    pub(crate) fn write(&self, address: u64, data: &[u8]) -> ControlFlow<MachineEnd> {
        match self.find(address) {
            Some((offset, device)) => device.write(offset, data),
            None => ControlFlow::Continue(()),
        }
    }

    fn find(&self, address: u64) -> Option<(u64, &Arc<dyn Registers>)> {
        let (range, device) = self.devices.iter().find(|(range, _)| range.contains(&address))?;
        Some((address - range.start, device))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.devices.iter().map(|(range, _)| range)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Registers for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data[0] = offset.to_le_bytes()[0];
        }

        fn write(&self, _offset: u64, _data: &[u8]) -> ControlFlow<MachineEnd> {
            ControlFlow::Break(MachineEnd::Reset)
        }
    }

    #[test]
    fn device_sees_offsets_and_nothing_outside_its_range() {
        let mut bus = Bus::default();
        bus.add(0x100..0x110, Arc::new(Echo));
        let mut data = [0; 2];
        bus.read(0x10f, &mut data);
        assert_eq!(data, [0x0f, 0xff]);
        bus.read(0x110, &mut data);
        assert_eq!(data, [0xff, 0xff]);
        assert!(bus.write(0x100, &[1]).is_break());
        assert!(bus.write(0xff, &[1]).is_continue());
    }
}
