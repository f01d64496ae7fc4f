//! The probe boots a tiny guest in a KVM machine. It sees whether the guest executes what stock
//! kernels execute, at a sensible speed.
//!
//! `/dev/kvm` alone says little. On some hosts (PVM among them) it opens and answers every
//! question, but all kernel code of a stock guest is emulated. Such a guest is hundreds of times
//! slower, and lacks instructions. So the probe measures.
//!
//! The vCPU runs in a thread of its own. The calling thread holds the clock and stops the vCPU with
//! a signal when [`BUDGET`] is over.

pub(crate) mod guest;
pub(crate) mod machine;
pub(crate) mod verdict;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use guest::Test;
use machine::{BuildError, Outcome, ProbeMachine};
use verdict::{Observation, Speed};

/// Time that the guest may take.
const BUDGET: Duration = Duration::from_millis(1500);
/// Time that the vCPU may take to come back after it was told to stop.
const STOP_BUDGET: Duration = Duration::from_millis(500);
/// Between two signals to a vCPU that should stop: a signal that arrives just before the vCPU
/// enters the guest has no effect.
const KICK_INTERVAL: Duration = Duration::from_millis(5);
/// Loop lengths, in turns; each is tried [`ROUNDS`] times and the fastest counts.
const LOOPS: [u64; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 3;
/// A round longer than this is long enough to judge by; longer loops are not tried.
const LONG_ENOUGH: Duration = Duration::from_millis(20);

/// Why the probe could not run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The host refused a step of making the machine.
    #[error("KVM refused {0}")]
    Build(#[from] BuildError),
    /// The stop signal could not be set up, or the thread not be started.
    #[error("preparing the probe: {0}")]
    Prepare(#[from] std::io::Error),
}

/// What the vCPU's thread reports.
enum Report {
    Speed(Speed),
    SpeedFailure(Outcome),
    Test(Test, Outcome),
}

/// Runs the probe; takes at most two seconds.
pub(crate) fn run(kvm: &Kvm) -> Result<Observation, ProbeError> {
    extern "C" fn only_interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), only_interrupt)
        .map_err(|e| std::io::Error::from_raw_os_error(e.errno()))?;
    let mut machine = ProbeMachine::build(kvm)?;
    let (sender, receiver) = mpsc::channel();
    let deadline = Instant::now() + BUDGET;
    let vcpu = thread::Builder::new()
        .name("probe vCPU".into())
        .spawn(move || drive(&mut machine, deadline, &sender))?;
    Ok(watch(&receiver, &vcpu, deadline))
}

/// Collects reports until the vCPU's thread ends, and stops it at the deadline.
fn watch(reports: &Receiver<Report>, vcpu: &JoinHandle<()>, deadline: Instant) -> Observation {
    let mut seen = Observation::default();
    loop {
        let now = Instant::now();
        let wait = match deadline.checked_duration_since(now) {
            Some(left) if !left.is_zero() => left,
            _ => KICK_INTERVAL,
        };
        match reports.recv_timeout(wait) {
            Ok(Report::Speed(speed)) => seen.speed = Some(speed),
            Ok(Report::SpeedFailure(outcome)) => seen.speed_failure = Some(outcome),
            Ok(Report::Test(test, outcome)) => seen.tests.push((test, outcome)),
            Err(RecvTimeoutError::Disconnected) => return seen,
            Err(RecvTimeoutError::Timeout) if now > deadline + STOP_BUDGET => {
                seen.stuck = true;
                return seen;
            }
            // A failed kick means that the thread is gone, which the channel tells next.
            Err(RecvTimeoutError::Timeout) => drop(vcpu.kill(SIGRTMIN())),
        }
    }
}

/// The vCPU's thread: measures, then runs every instruction test. Reports go to a receiver
/// that may be gone, which is no error.
fn drive(machine: &mut ProbeMachine, deadline: Instant, reports: &Sender<Report>) {
    measure(machine, deadline, reports);
    for test in Test::INSTRUCTIONS {
        if Instant::now() >= deadline {
            return;
        }
        let (outcome, _) = machine.run(test, 0);
        drop(reports.send(Report::Test(test, outcome)));
    }
}

/// Runs the speed loop on both sides, longer and longer, until a round is long enough.
fn measure(machine: &mut ProbeMachine, deadline: Instant, reports: &Sender<Report>) {
    for turns in LOOPS {
        let mut best = Speed { turns, guest: Duration::MAX, host: Duration::MAX };
        for _ in 0..ROUNDS {
            let (outcome, time) = machine.run(Test::Speed, turns);
            if outcome != Outcome::Passed {
                drop(reports.send(Report::SpeedFailure(outcome)));
                return;
            }
            let begin = Instant::now();
            guest::run_loop_on_host(turns);
            best.host = best.host.min(begin.elapsed());
            best.guest = best.guest.min(time);
            drop(reports.send(Report::Speed(best)));
            if Instant::now() >= deadline {
                return;
            }
        }
        if best.guest >= LONG_ENOUGH {
            return;
        }
    }
}
