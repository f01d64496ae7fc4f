//! The serial port: a guest kernel's log before its drivers are there, for debugging.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vm_superio::{Serial, Trigger};
use vmm_api::MachineEnd;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Registers;

/// The interrupt line.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A 16550 without input.
pub(crate) struct SerialPort(Mutex<Serial<Line, vm_superio::serial::NoEvents, File>>);

impl SerialPort {
    /// A port that writes to `output` and pulses `line`.
    pub(crate) fn new(output: OwnedFd, line: EventFd) -> Self {
        Self(Mutex::new(Serial::new(Line(line), File::from(output))))
    }

    fn lock(&self) -> MutexGuard<'_, Serial<Line, vm_superio::serial::NoEvents, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registers for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            *value = self.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> ControlFlow<MachineEnd> {
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            // What can't be written is lost; a debugging aid must not end the machine.
            let _ = self.lock().write(offset, *value);
        }
        ControlFlow::Continue(())
    }
}
