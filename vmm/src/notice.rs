//! What vCPU threads and devices tell the control thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use vmm_api::{MachineEnd, Window};

/// Something that the control thread has to act upon.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The machine is over. The vCPU that says so has stopped.
    End(MachineEnd),
    /// The guest's agent serves its ports, since this moment.
    GuestReady(Instant),
    /// A device stopped working.
    DeviceFailed {
        /// Where it sits.
        window: Window,
        /// Why, in one line.
        reason: String,
    },
}

/// The sending end; one clone per thread that has something to say.
#[derive(Debug, Clone)]
pub(crate) struct NoticeSender {
    queue: Sender<Notice>,
    wake: Arc<OwnedFd>,
}

impl NoticeSender {
    /// Queues a notice and wakes the control thread.
    pub(crate) fn send(&self, notice: Notice) {
        // Neither fails while there is a control thread: it holds the other ends, and the
        // counter is far from its limit. Without one the process is about to exit.
        let _ = self.queue.send(notice);
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Notices {
    queue: Receiver<Notice>,
    sender: NoticeSender,
}

impl Notices {
    /// An empty queue.
    ///
    /// # Errors
    /// If there are no more event descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, queue) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        Ok(Self { queue, sender: NoticeSender { queue: sender, wake } })
    }

    /// An end to send with.
    pub(crate) fn sender(&self) -> NoticeSender {
        self.sender.clone()
    }

    /// The oldest notice, if there is one. The descriptor stays readable until there is none.
    pub(crate) fn next(&self) -> Option<Notice> {
        if let Ok(notice) = self.queue.try_recv() {
            return Some(notice);
        }
        // Only fails if nothing was pending. What was sent since the look above has its wake-up
        // taken away here, so look again.
        let _ = rustix::io::read(&*self.sender.wake, &mut [0; 8]);
        self.queue.try_recv().ok()
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_arrive_in_order() {
        let notices = Notices::new().unwrap();
        let sender = notices.sender();
        sender.send(Notice::GuestReady(Instant::now()));
        sender.send(Notice::End(MachineEnd::Reset));
        assert!(matches!(notices.next(), Some(Notice::GuestReady(_))));
        assert!(matches!(notices.next(), Some(Notice::End(MachineEnd::Reset))));
        assert!(notices.next().is_none());
    }
}
