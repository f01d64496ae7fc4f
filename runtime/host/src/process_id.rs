//! Process ids of a pod's containers on the host. Callers build paths `/proc/<pid>/ns/<kind>` of
//! the ids that they are told. So they name the container whose namespaces another one shall share.
//! Each container therefore needs an id of its own that is a real one. No process on the host
//! stands for a container of a machine, so a thread of this one does, which sleeps all its life.
//! The cost is a stack of 16 KiB, of which it touches less.

use std::io;
use std::sync::mpsc;

/// Stack of the thread in bytes; the least that the C library takes.
const STACK: usize = 16 << 10;

/// An id that is nobody else's as long as the value lives.
#[derive(Debug)]
pub struct ProcessId {
    id: u32,
    /// Ends the thread when it is dropped.
    _life: mpsc::Sender<()>,
}

impl ProcessId {
    /// Takes an id.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn new() -> io::Result<Self> {
        let (life, end) = mpsc::channel::<()>();
        let (told, id) = mpsc::channel();
        let sleep = move || {
            // Nobody is there to be told when the other side gave up.
            let _gone = told.send(rustix::thread::gettid());
            let _over = end.recv();
        };
        std::thread::Builder::new().name("container".into()).stack_size(STACK).spawn(sleep)?;
        let id = id.recv().map_err(io::Error::other)?;
        Ok(Self { id: id.as_raw_nonzero().get().unsigned_abs(), _life: life })
    }

    /// The id.
    pub fn id(&self) -> u32 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_lead_to_namespaces() {
        let marks = [ProcessId::new().unwrap(), ProcessId::new().unwrap()];
        assert_ne!(marks[0].id(), marks[1].id());
        for mark in &marks {
            assert_ne!(mark.id(), std::process::id());
            let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", mark.id())).unwrap();
            assert_eq!(namespace, std::fs::read_link("/proc/self/ns/pid").unwrap());
        }
    }
}
