//! Where vCPU threads wait, and how the control thread waits for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What vCPU threads are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Wait at the gate.
    Paused,
    /// Run the guest.
    Running,
    /// Return.
    Ending,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Threads that are not waiting at the gate and have not left.
    outside: usize,
}

/// A gate for a fixed number of threads, closed at first.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// A closed gate for `threads` threads, none of which has come to it yet.
    pub(super) fn new(threads: usize) -> Self {
        let state = State { phase: Phase::Paused, outside: threads };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Changes the phase. Threads in the guest need a kick to notice.
    pub(super) fn set(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }

    /// Waits until every thread waits at the gate or has left.
    pub(super) fn wait_parked(&self) {
        let waited = self.changed.wait_while(self.lock(), |state| state.outside > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits while the gate is closed; whether to run the guest then, rather than return.
    pub(super) fn pass(&self) -> bool {
        let mut state = self.lock();
        state.outside -= 1;
        self.changed.notify_all();
        let mut state = self
            .changed
            .wait_while(state, |state| state.phase == Phase::Paused)
            .unwrap_or_else(PoisonError::into_inner);
        state.outside += 1;
        state.phase == Phase::Running
    }

    /// Says that a thread will not come back.
    pub(super) fn leave(&self) {
        self.lock().outside -= 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn go_through(gate: &Gate, ran: &AtomicBool) {
        while gate.pass() {
            ran.store(true, Ordering::SeqCst);
        }
        gate.leave();
    }

    #[test]
    fn nobody_passes_a_closed_gate_and_all_return_at_the_end() {
        let gate = Arc::new(Gate::new(3));
        let ran = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (gate, ran) = (Arc::clone(&gate), Arc::clone(&ran));
                std::thread::spawn(move || go_through(&gate, &ran))
            })
            .collect();
        gate.wait_parked();
        assert!(!ran.load(Ordering::SeqCst));
        gate.set(Phase::Running);
        while !ran.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        gate.set(Phase::Paused);
        gate.wait_parked();
        gate.set(Phase::Ending);
        for thread in threads {
            thread.join().unwrap();
        }
        gate.wait_parked();
    }
}
