//! What a probe's observations say about the machine. Pure.

use std::time::Duration;

use super::guest::{LOOP_INSTRUCTIONS, Test};
use super::machine::Outcome;

/// From this ratio of host speed to guest speed on, kernel code is taken to be emulated.
/// Hardware virtualisation, and a nested host emulated in software (where both sides are slow),
/// measure below 3; emulation by the host's kernel measures in the hundreds and thousands.
const EMULATED_RATIO: f64 = 20.0;

/// The shortest time of a loop of the same length on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    /// Turns of the loop.
    pub(crate) turns: u64,
    /// Time that the guest took.
    pub(crate) guest: Duration,
    /// Time that the host took.
    pub(crate) host: Duration,
}

impl Speed {
    /// How many times faster the host executes the loop.
    pub(crate) fn ratio(&self) -> f64 {
        self.guest.as_secs_f64() / self.host.as_secs_f64().max(1e-9)
    }

    /// Instructions a microsecond in a time of this loop.
    fn rate(&self, time: Duration) -> f64 {
        let instructions = f64::from(u32::try_from(self.turns * LOOP_INSTRUCTIONS).unwrap_or(0));
        instructions / (time.as_secs_f64() * 1e6).max(1e-3)
    }

    /// Supervisor-mode instructions a microsecond in the guest.
    pub(crate) fn guest_rate(&self) -> f64 {
        self.rate(self.guest)
    }

    /// The same on the host, in user mode.
    pub(crate) fn host_rate(&self) -> f64 {
        self.rate(self.host)
    }
}

/// Everything that the probe saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    /// The best speed measured, if the loop ended at least once.
    pub(crate) speed: Option<Speed>,
    /// How the speed loop ended when it did not pass.
    pub(crate) speed_failure: Option<Outcome>,
    /// The instruction tests that were reached.
    pub(crate) tests: Vec<(Test, Outcome)>,
    /// The vCPU did not come back even after it was told to.
    pub(crate) stuck: bool,
}

/// Whether the machine can run a stock kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// The guest ran everything at about the host's own speed.
    Usable(Speed),
    /// Kernel code is emulated by the host's kernel (a PVM host, for instance).
    Emulated {
        /// The measured speed, if the loop ended at all.
        speed: Option<Speed>,
        /// Instructions that could not be executed.
        missing: Vec<&'static str>,
        /// Instructions that guests are told not to use.
        withheld: Vec<&'static str>,
    },
    /// The guest ran at full speed but some instructions failed.
    Broken(Vec<(&'static str, Outcome)>),
    /// The guest did not get anywhere in time.
    NoAnswer,
}

/// Judges what the probe saw.
pub(crate) fn classify(seen: &Observation) -> Verdict {
    let failed: Vec<_> = seen
        .speed_failure
        .iter()
        .map(|outcome| (Test::Speed.name(), outcome.clone()))
        .chain(seen.tests.iter().map(|(test, outcome)| (test.name(), outcome.clone())))
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Passed | Outcome::NotOffered))
        .collect();
    let slow = seen.speed.is_some_and(|speed| speed.ratio() >= EMULATED_RATIO);
    let refused = |(_, outcome): &(_, Outcome)| *outcome == Outcome::NotEmulated;
    if slow || failed.iter().any(refused) {
        let missing = failed.iter().filter(|f| f.1 != Outcome::OutOfTime).map(|f| f.0).collect();
        let withheld = seen.tests.iter().filter(|t| t.1 == Outcome::NotOffered);
        let withheld = withheld.map(|(test, _)| test.name()).collect();
        return Verdict::Emulated { speed: seen.speed, missing, withheld };
    }
    match seen.speed {
        _ if seen.stuck => Verdict::NoAnswer,
        None if failed.iter().all(|f| f.1 == Outcome::OutOfTime) => Verdict::NoAnswer,
        Some(speed) if failed.is_empty() => match seen.tests.len() {
            n if n == Test::INSTRUCTIONS.len() => Verdict::Usable(speed),
            _ => Verdict::NoAnswer,
        },
        _ => Verdict::Broken(failed),
    }
}

impl Verdict {
    /// The verdict in one line of plain words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Usable(speed) => format!("runs a stock guest; {}", speed_words(*speed)),
            Self::Emulated { speed, missing, withheld } => {
                let mut words =
                    String::from("unusable: guest kernel code is emulated here (a PVM host?)");
                if let Some(speed) = speed {
                    words += &format!(", {:.0} times slower than the host", speed.ratio());
                }
                if !missing.is_empty() {
                    words += &format!("; can't execute {}", missing.join(", "));
                }
                if !withheld.is_empty() {
                    words += &format!("; does not offer {}", withheld.join(", "));
                }
                words
            }
            Self::Broken(failed) => {
                let list: Vec<_> =
                    failed.iter().map(|(name, how)| format!("{name} ({})", how.words())).collect();
                format!("unusable: the guest failed at {}", list.join(", "))
            }
            Self::NoAnswer => "unusable: the guest did not get through in time".into(),
        }
    }
}

impl Outcome {
    fn words(&self) -> String {
        match self {
            Self::Passed => "passed".into(),
            Self::WrongResult => "wrong result".into(),
            Self::Trap(vector) => format!("exception {vector}"),
            Self::NotEmulated => "not emulated".into(),
            Self::OutOfTime => "out of time".into(),
            Self::Stopped(why) => why.clone(),
            Self::NotOffered => "not offered by the processor".into(),
        }
    }
}

fn speed_words(speed: Speed) -> String {
    format!("kernel code at {:.0} % of the host's speed", 100.0 / speed.ratio().max(1e-3))
}

#[cfg(test)]
mod tests;
