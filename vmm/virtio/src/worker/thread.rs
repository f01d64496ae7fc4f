//! The thread of a worker.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::serve::{self, Parting, Stop};
use super::{Backend, Spawner, ThreadKind};
use crate::device::Activation;

/// What a thread has to do: serve each driver that it is told of, until it is told to stop.
pub(super) struct Duty<B> {
    pub(super) backend: B,
    pub(super) orders: mpsc::Receiver<Activation>,
    /// Where it says what became of a driver.
    pub(super) acknowledge: mpsc::Sender<Parting>,
    pub(super) stop: Stop,
}

impl<B: Backend> Duty<B> {
    fn serve(&mut self, activation: Activation, ready: &io::Result<()>) {
        let Self { backend, acknowledge, stop, .. } = self;
        // Only the owner's disappearance makes this fail; there are no more orders then.
        let tell = |parting| drop(acknowledge.send(parting));
        tell(match ready {
            Ok(()) => serve::serve(backend, activation, stop, tell),
            Err(error) => {
                activation.failed.send(format!("prepare worker thread: {error}"));
                Parting::Over
            }
        });
    }
}

/// A thread with its duty.
#[derive(Debug)]
pub(super) struct Thread(JoinHandle<()>);

impl Thread {
    /// Makes a thread, which sleeps until its first order.
    pub(super) fn start<B: Backend>(
        spawner: &Spawner,
        kind: ThreadKind,
        mut duty: Duty<B>,
    ) -> io::Result<Self> {
        let prepare = Arc::clone(&spawner.prepare);
        let number = spawner.made.fetch_add(1, Ordering::Relaxed);
        let builder = std::thread::Builder::new().name(format!("{}{number}", kind.name));
        let thread = builder.stack_size(kind.stack).spawn(move || {
            let ready = prepare(kind);
            while let Ok(activation) = duty.orders.recv() {
                duty.serve(activation, &ready);
            }
        })?;
        Ok(Self(thread))
    }

    /// The thread finds by itself what it is told.
    pub(super) fn wake(&self) {}

    /// Waits for the thread's end; it has no more orders.
    pub(super) fn join(self) {
        let _ = self.0.join();
    }
}
