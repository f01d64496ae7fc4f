//! The table of virtio-mmio windows: which device sits where, and how it is wired to KVM.
//!
//! A window with a device has an event descriptor on its interrupt line (irqfd). It has one more
//! for each queue's notifications (ioeventfd). So neither costs an exit to this process. Nor does
//! reading a register, which the guest finds in memory ([`Shadows`]). Nor does acknowledging that
//! buffers were used. An empty window shows device type 0.
//!
//! Windows that share a line share its event descriptor too. KVM raises and lowers the line for
//! each descriptor by itself. With two descriptors, one device's edge could fall between the
//! other's two steps and be lost. The guest may have looked at both devices already.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_ioctls::{IoEventAddress, VmFd};
use virtio::device::{Device, ParkError};
use virtio::interrupt::INTERRUPT_USED_RING;
use virtio::mmio::{
    INTERRUPT_ACK, MmioTransport, QUEUE_NOTIFY, RestoreError, Shadows, TransportState, WINDOW_SIZE,
};
use vm_memory::GuestMemoryMmap;
use vmm_api::{MachineEnd, WINDOWS, Window};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch::x86_64::layout;
use crate::bus::Registers;

/// A window that could not be filled or emptied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WindowError {
    /// Every window has a device.
    #[error("all {WINDOWS} windows hold a device: detach one first")]
    Full,
    /// There is no device to take out.
    #[error("window {0} holds no device")]
    Empty(u8),
    /// A device can't be saved as it is.
    #[error("save the device in window {window}")]
    Park {
        /// Which window.
        window: u8,
        /// Why not.
        source: ParkError,
    },
    /// A device can't go on where a saved one was.
    #[error("restore the device in window {window}")]
    Restore {
        /// Which window.
        window: u8,
        /// In what they differ.
        source: RestoreError,
    },
    /// The host refused an event descriptor or KVM its registration.
    #[error("{action} for window {window}")]
    Wire {
        /// What was being done.
        action: &'static str,
        /// For which window.
        window: u8,
        /// Why it failed.
        source: io::Error,
    },
}

/// The event descriptors of the interrupt lines that have been used so far.
#[derive(Default)]
struct Lines(Mutex<BTreeMap<u32, Arc<EventFd>>>);

impl Lines {
    /// The event of `line`, which is made and given to `register` when it is first asked for.
    fn event(
        &self,
        line: u32,
        register: impl FnOnce(&EventFd) -> io::Result<()>,
    ) -> io::Result<Arc<EventFd>> {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = events.get(&line) {
            return Ok(Arc::clone(event));
        }
        let event = Arc::new(new_event()?);
        register(&event)?;
        events.insert(line, Arc::clone(&event));
        Ok(event)
    }
}

/// A window with a device.
struct Occupied {
    transport: MmioTransport,
    /// Hears of acknowledged interrupts, and nobody listens.
    seen: EventFd,
}

/// All windows of a machine.
pub(crate) struct Windows {
    slots: Vec<Mutex<Option<Occupied>>>,
    lines: Lines,
    vm: Arc<VmFd>,
    memory: GuestMemoryMmap,
    shadows: Shadows,
}

impl Windows {
    /// Empty windows of the machine `vm` with its `memory`, which has the `shadows` mapped.
    pub(crate) fn new(vm: Arc<VmFd>, memory: GuestMemoryMmap, shadows: Shadows) -> Self {
        let slots = (0..WINDOWS).map(|_| Mutex::new(None)).collect();
        Self { slots, lines: Lines::default(), vm, memory, shadows }
    }

    /// The first free window; what is free stays so, because only the control thread attaches.
    ///
    /// # Errors
    /// [`WindowError::Full`].
    pub(crate) fn first_free(&self) -> Result<Window, WindowError> {
        all().find(|window| self.slot(*window).is_none()).ok_or(WindowError::Full)
    }

    /// The windows that hold a device.
    pub(crate) fn occupied(&self) -> Vec<Window> {
        all().filter(|window| self.slot(*window).is_some()).collect()
    }

    /// Puts `device` into the empty window `window`. The guest, which may look at any time, finds it
    /// when all is in place.
    ///
    /// # Errors
    /// [`WindowError::Wire`]; the window then stays empty.
    pub(crate) fn attach(
        &self,
        window: Window,
        device: Box<dyn Device>,
    ) -> Result<(), WindowError> {
        let (line, shadow) = (self.line(window)?, self.shadows.window(window.index().into()));
        let transport = MmioTransport::new(device, self.memory.clone(), line, shadow)
            .map_err(wire_error(window, "create queue events"))?;
        self.occupy(window, transport)
    }

    /// Puts `device` into the empty window `window`, where it goes on from `state`.
    ///
    /// # Errors
    /// [`WindowError::Restore`] or [`WindowError::Wire`]; the window then stays empty.
    pub(crate) fn restore(
        &self,
        window: Window,
        device: Box<dyn Device>,
        state: &TransportState,
    ) -> Result<(), WindowError> {
        let (line, shadow) = (self.line(window)?, self.shadows.window(window.index().into()));
        let memory = self.memory.clone();
        let transport = MmioTransport::restore(device, memory, line, shadow, state)
            .map_err(|source| WindowError::Restore { window: window.index(), source })?;
        self.occupy(window, transport)
    }

    /// Stops all devices where others can go on, and says from where. The guest must not run.
    ///
    /// # Errors
    /// [`WindowError::Park`] for a device that can't be saved; all go on then.
    pub(crate) fn park(&self) -> Result<Vec<(Window, TransportState)>, WindowError> {
        let mut parked = Vec::new();
        for window in self.occupied() {
            let state = match self.slot(window).as_mut() {
                Some(occupied) => occupied.transport.park(),
                None => continue,
            };
            match state {
                Ok(state) => parked.push((window, state)),
                Err(source) => {
                    self.unpark(&parked);
                    return Err(WindowError::Park { window: window.index(), source });
                }
            }
        }
        Ok(parked)
    }

    /// Lets devices go on that were just parked.
    pub(crate) fn unpark(&self, parked: &[(Window, TransportState)]) {
        for (window, state) in parked {
            if let Some(occupied) = self.slot(*window).as_mut() {
                occupied.transport.unpark(state);
            }
        }
    }

    /// The interrupt line of a window.
    fn line(&self, window: Window) -> Result<Arc<EventFd>, WindowError> {
        let number = layout::window_line(window);
        self.lines
            .event(number, |line| self.vm.register_irqfd(line, number).map_err(host))
            .map_err(wire_error(window, "create interrupt event"))
    }

    fn occupy(&self, window: Window, transport: MmioTransport) -> Result<(), WindowError> {
        let seen = new_event().map_err(wire_error(window, "create event"))?;
        let occupied = Occupied { transport, seen };
        if let Err(error) = self.wire(window, &occupied) {
            self.unwire(window, &occupied);
            return Err(wire_error(window, "register events with KVM")(error));
        }
        self.slot(window).insert(occupied).transport.publish();
        Ok(())
    }

    /// Takes the device out of a window and ends it.
    ///
    /// # Errors
    /// [`WindowError::Empty`].
    pub(crate) fn detach(&self, window: Window) -> Result<(), WindowError> {
        let mut slot = self.slot(window);
        let occupied = slot.take().ok_or(WindowError::Empty(window.index()))?;
        occupied.transport.withdraw();
        drop(slot);
        self.unwire(window, &occupied);
        Ok(())
    }

    /// Ends all devices, the last attached first.
    pub(crate) fn clear(&self) {
        for window in self.occupied().into_iter().rev() {
            // It was there a moment ago, and only this thread takes devices out.
            let _ = self.detach(window);
        }
    }

    fn slot(&self, window: Window) -> MutexGuard<'_, Option<Occupied>> {
        let slot = &self.slots[usize::from(window.index())];
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire(&self, window: Window, occupied: &Occupied) -> io::Result<()> {
        let notify = address(window, QUEUE_NOTIFY);
        for (index, kick) in (0_u32..).zip(occupied.transport.kicks()) {
            self.vm.register_ioevent(kick, &notify, index).map_err(host)?;
        }
        let acknowledge = address(window, INTERRUPT_ACK);
        self.vm.register_ioevent(&occupied.seen, &acknowledge, INTERRUPT_USED_RING).map_err(host)
    }

    /// Undoes [`Windows::wire`] as far as it came.
    fn unwire(&self, window: Window, occupied: &Occupied) {
        // Fails for what was never registered, and there is nothing to do then.
        let notify = address(window, QUEUE_NOTIFY);
        for (index, kick) in (0_u32..).zip(occupied.transport.kicks()) {
            let _ = self.vm.unregister_ioevent(kick, &notify, index);
        }
        let acknowledge = address(window, INTERRUPT_ACK);
        let _ = self.vm.unregister_ioevent(&occupied.seen, &acknowledge, INTERRUPT_USED_RING);
    }
}

impl std::fmt::Debug for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Windows").field(&self.occupied()).finish()
    }
}

impl Registers for Windows {
    /// Never called: the guest reads the windows' shadows.
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, offset: u64, data: &[u8]) -> ControlFlow<MachineEnd> {
        if let Some((window, offset)) = locate(offset)
            && let Some(occupied) = self.slot(window).as_mut()
        {
            occupied.transport.write(offset, data);
        }
        ControlFlow::Continue(())
    }
}

fn new_event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

fn wire_error(window: Window, action: &'static str) -> impl FnOnce(io::Error) -> WindowError {
    move |source| WindowError::Wire { action, window: window.index(), source }
}

fn host(error: kvm_ioctls::Error) -> io::Error {
    error.into()
}

fn all() -> impl Iterator<Item = Window> {
    (0..WINDOWS).filter_map(|index| Window::try_from(index).ok())
}

fn address(window: Window, register: u64) -> IoEventAddress {
    IoEventAddress::Mmio(layout::window_address(window) + register)
}

/// The window at an offset from the first one, and the offset in it.
fn locate(offset: u64) -> Option<(Window, u64)> {
    let index = u8::try_from(offset / WINDOW_SIZE).ok()?;
    Some((Window::try_from(index).ok()?, offset % WINDOW_SIZE))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn windows_on_one_line_share_its_event() {
        let (lines, registered) = (Lines::default(), AtomicUsize::new(0));
        let event = |line| {
            let register = |_: &EventFd| {
                registered.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            lines.event(line, register).unwrap()
        };
        let line = |index: u8| layout::window_line(Window::try_from(index).unwrap());
        assert!(Arc::ptr_eq(&event(line(1)), &event(line(17))));
        assert_eq!(registered.load(Ordering::Relaxed), 1);
        assert!(!Arc::ptr_eq(&event(line(1)), &event(line(2))));
        let refused = lines.event(line(3), |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert!(refused.is_err());
        event(line(3));
        assert_eq!(registered.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn offsets_lead_to_their_windows() {
        assert_eq!(locate(0), Some((Window::try_from(0).unwrap(), 0)));
        assert_eq!(locate(0x7e50), Some((Window::try_from(63).unwrap(), 0x50)));
        assert_eq!(locate(0x8000), None);
        assert_eq!(locate(u64::MAX), None);
    }
}
