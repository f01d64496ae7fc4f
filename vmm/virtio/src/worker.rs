//! The one kind of thread on which every device runs.
//!
//! A device's thread is made together with the device and sleeps until the driver is ready. It
//! serves the queues until the driver resets the device, and sleeps again:
//!
//! ```text
//!   Worker::spawn ──► asleep ── activate ──► serving ── reset, park ──► asleep ── drop ──► gone
//! ```
//!
//! A parked device says how far it came with its queues, so that another can go on there.
//!
//! Threads are not made on activation, because that happens on a vCPU's thread, deep inside a
//! register write. A new thread inherits its parent's seccomp filter. A vCPU's filter has no room
//! for what devices do. For the same reason a device must be created after its process has entered
//! its jail. The thread that creates it must have a filter that allows all that workers do.

mod active;
mod backend;
mod coalescing;
mod drain;
mod serve;
#[cfg_attr(fuzzing, path = "worker/stepped.rs")]
mod thread;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

pub(crate) use active::{Active, FIRST_TOKEN, WorkerError};
pub(crate) use backend::Backend;
pub(crate) use coalescing::Coalescing;
use serve::{Parting, Stop};
#[cfg(fuzzing)]
pub(crate) use thread::step_all;
use thread::{Duty, Thread};

use crate::device::{Activation, Description, Device, DeviceError, ParkError, Parked};

/// What kind of thread serves a device. Each device's module says it, as its `THREAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadKind {
    /// Prefix of the thread's name as seen in `/proc/<pid>/task/*/comm`; a number follows. Its
    /// seccomp filter has the same name.
    pub name: &'static str,
    /// Bytes of stack. Small, because every page that is ever touched stays.
    pub stack: usize,
    /// Whether it needs capabilities, to do with files what each of the guest's users may do.
    pub acts_for_users: bool,
}

/// What a new worker thread does first, for instance install its seccomp filter.
type Prepare = dyn Fn(ThreadKind) -> io::Result<()> + Send + Sync;

/// Makes worker threads.
#[derive(Clone)]
pub struct Spawner {
    prepare: Arc<Prepare>,
    made: Arc<AtomicU32>,
}

impl Spawner {
    /// A spawner whose threads call `prepare` before anything else. A thread for which it fails
    /// serves nothing: the device reports a failure once its driver is ready.
    pub fn new(prepare: impl Fn(ThreadKind) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { prepare: Arc::new(prepare), made: Arc::default() }
    }
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spawner")
    }
}

/// A device with the thread that serves it. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub struct Worker {
    name: &'static str,
    description: Description,
    /// Queues without which the device can't work: the first ones.
    needed: usize,
    orders: Option<mpsc::Sender<Activation>>,
    stop: Arc<EventFd>,
    /// What `stop` says, for a thread that is busy.
    stopping: Arc<AtomicBool>,
    /// Whether `stop` asks to park.
    parking: Arc<AtomicBool>,
    stopped: mpsc::Receiver<Parting>,
    thread: Option<Thread>,
    active: bool,
}

impl Worker {
    /// A device that is what `description` says, served by `backend` on a thread that sleeps
    /// until the driver is ready.
    ///
    /// # Errors
    /// [`DeviceError::Host`] if there are no more threads or descriptors.
    pub(crate) fn spawn<B: Backend>(
        spawner: &Spawner,
        kind: ThreadKind,
        description: Description,
        backend: B,
    ) -> Result<Self, DeviceError> {
        let name = kind.name;
        let needed = backend.needs().min(description.queue_sizes.len());
        let host = |action| move |source| DeviceError::Host { device: name, action, source };
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host("create stop event"))?;
        let stop = Arc::new(stop);
        let (orders, incoming) = mpsc::channel();
        let (acknowledge, stopped) = mpsc::channel();
        let (stopping, parking) = (Arc::default(), Arc::default());
        let thread_stop = Stop {
            event: Arc::clone(&stop),
            soon: Arc::clone(&stopping),
            park: Arc::clone(&parking),
        };
        let duty = Duty { backend, orders: incoming, acknowledge, stop: thread_stop };
        let thread = Thread::start(spawner, kind, duty).map_err(host("start thread"))?;
        let (orders, thread) = (Some(orders), Some(thread));
        Ok(Self {
            name,
            description,
            needed,
            orders,
            stop,
            stopping,
            parking,
            stopped,
            thread,
            active: false,
        })
    }

    /// Tells the thread to stop, or to park, and waits for what it answers.
    fn part(&self, park: bool) -> Parting {
        // Neither fails: the counter is far from its limit, and a thread that panicked has
        // dropped its end, so that the wait is over.
        self.parking.store(park, Ordering::Relaxed);
        self.stopping.store(true, Ordering::Release);
        let _ = self.stop.write(1);
        self.thread.iter().for_each(Thread::wake);
        self.stopped.recv().unwrap_or(Parting::Over)
    }
}

impl Device for Worker {
    fn description(&self) -> &Description {
        &self.description
    }

    /// Wakes the thread to serve the driver.
    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let (device, needed, queues) = (self.name, self.needed, &activation.queues);
        // A queue's index is its position, as long as the driver leaves out none before it.
        let enabled = (0..).zip(queues).take_while(|(index, queue)| queue.index == *index).count();
        if enabled < needed || enabled != queues.len() {
            return Err(DeviceError::Queues { device, enabled, needed });
        }
        // A worker that failed has not read the order to stop that the last reset gave it.
        let _ = self.stop.read();
        self.stopping.store(false, Ordering::Relaxed);
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(activation).is_ok());
        if !sent {
            let source = io::Error::from(io::ErrorKind::BrokenPipe);
            return Err(DeviceError::Host { device: self.name, action: "wake thread", source });
        }
        self.active = true;
        Ok(())
    }

    /// Puts the thread to sleep and waits until it no longer touches the guest's memory.
    fn reset(&mut self) {
        if std::mem::take(&mut self.active) {
            self.part(false);
        }
    }

    fn park(&mut self) -> Result<Parked, ParkError> {
        let device = self.name;
        if let Some(reason) = self.description.unsavable {
            return Err(ParkError::Kind { device, reason });
        }
        if !self.active {
            return Ok(Parked::default());
        }
        match self.part(true) {
            Parting::Parked(parked) => {
                self.active = false;
                Ok(parked)
            }
            Parting::Refused(reason) => Err(ParkError::Busy { device, reason }),
            Parting::Over => {
                self.active = false;
                Err(ParkError::Failed)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.reset();
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
