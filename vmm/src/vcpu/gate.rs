//! Where vCPU threads wait, and how the control thread waits for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What vCPU threads are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Wait at the gate.
    Paused,
    /// Say what the vCPU's state is, each thread once, and wait.
    Saving,
    /// Run the guest.
    Running,
    /// Return.
    Ending,
}

/// What a thread is to do that has passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Run the guest.
    Run,
    /// Say what the vCPU's state is.
    Save,
    /// Return.
    End,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// How often the phase was [`Phase::Saving`].
    saves: u64,
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
        let state = State { phase: Phase::Paused, saves: 0, outside: threads };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Changes the phase. Threads in the guest need a kick to notice.
    pub(super) fn set(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        state.saves += u64::from(phase == Phase::Saving);
        self.changed.notify_all();
    }

    /// Waits until every thread waits at the gate or has left.
    pub(super) fn wait_parked(&self) {
        let waited = self.changed.wait_while(self.lock(), |state| state.outside > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits while the gate is closed; what to do then. `saves` is the thread's own count of the
    /// times that it was told to save, 0 at first.
    pub(super) fn pass(&self, saves: &mut u64) -> Task {
        let mut state = self.lock();
        state.outside -= 1;
        self.changed.notify_all();
        let mut state = self
            .changed
            .wait_while(state, |state| match state.phase {
                Phase::Paused => true,
                Phase::Saving => *saves == state.saves,
                Phase::Running | Phase::Ending => false,
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.outside += 1;
        *saves = state.saves;
        match state.phase {
            Phase::Running => Task::Run,
            Phase::Saving => Task::Save,
            Phase::Paused | Phase::Ending => Task::End,
        }
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
        let mut saves = 0;
        while gate.pass(&mut saves) == Task::Run {
            ran.store(true, Ordering::SeqCst);
        }
        gate.leave();
    }

    /// Does what the gate says, and says whether that was ever to run.
    fn serve(gate: &Gate, save: impl Fn()) -> bool {
        let (mut saves, mut ran) = (0, false);
        loop {
            match gate.pass(&mut saves) {
                Task::Run => ran = true,
                Task::Save => save(),
                Task::End => break,
            }
        }
        gate.leave();
        ran
    }

    #[test]
    fn each_thread_saves_once_each_time_and_does_not_run() {
        let gate = Arc::new(Gate::new(2));
        let (saved, all) = std::sync::mpsc::channel();
        let threads = [0, 1].map(|number| {
            let (gate, saved) = (Arc::clone(&gate), saved.clone());
            std::thread::spawn(move || serve(&gate, || saved.send(number).unwrap()))
        });
        for _ in 0..3 {
            gate.set(Phase::Saving);
            let mut numbers = [all.recv().unwrap(), all.recv().unwrap()];
            numbers.sort_unstable();
            assert_eq!(numbers, [0, 1]);
            gate.set(Phase::Paused);
        }
        gate.wait_parked();
        assert!(all.try_recv().is_err());
        gate.set(Phase::Ending);
        assert_eq!(threads.map(|thread| thread.join().unwrap()), [false, false]);
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
