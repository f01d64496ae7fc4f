//! When a container's process is started again after its end (pure). Who makes the container says it
//! by an annotation. The same container goes on: its id, its log and what it has written.
//!
//! ```text
//!   Running ── its process ends ──► Exited ── the delay is over ──► Running
//!                                      └── somebody stops it, or its pod ──► it stays so
//! ```

use std::time::Duration;

use protocol::cri::ContainerConfig;

use crate::fault::Fault;
use crate::row::{Container, ContainerPhase, Pod, PodPhase};

/// The annotation with the policy, as Docker writes it.
pub(crate) const ANNOTATION: &str = "dev.cuddy.restart";

/// The first delay, which each further one doubles.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);

/// A process that ran so long was well: the delay begins anew.
const WELL: Duration = Duration::from_secs(10);

/// Most delays that are counted; the longest is reached before.
const MOST_DELAYS: u32 = 16;

/// After which ends a process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// None.
    No,
    /// Those with another code than 0, so many times; none: each time.
    OnFailure(Option<u32>),
    /// All.
    Always,
}

impl Policy {
    /// The policy of a container that is asked for.
    ///
    /// # Errors
    /// [`Fault::InvalidArgument`] for a text that is none.
    pub(crate) fn of(config: &ContainerConfig) -> Result<Self, Fault> {
        let Some(text) = config.annotations.get(ANNOTATION) else { return Ok(Self::No) };
        Self::parse(text).ok_or_else(|| {
            let text = api::text::printable(text, 80);
            let known = "no, on-failure, on-failure:N, always or unless-stopped";
            Fault::InvalidArgument(format!("annotation {ANNOTATION}: {text:?} is not {known}"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "no" => Some(Self::No),
            "on-failure" => Some(Self::OnFailure(None)),
            // They differ after a restart of the node, which forgets its containers.
            "always" | "unless-stopped" => Some(Self::Always),
            _ => {
                let number = text.strip_prefix("on-failure:")?.parse().ok()?;
                Some(Self::OnFailure((number > 0).then_some(number)))
            }
        }
    }

    fn wants(self, row: &Container) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => {
                row.exit_code != 0 && most.is_none_or(|most| row.restarts < most)
            }
            Self::Always => true,
        }
    }
}

/// When a container's process is to be started again, in nanoseconds since 1970; none: not at all.
/// One that never ran has nothing to start again, and one that somebody stopped stays so.
pub(crate) fn due(pod: &Pod, row: &Container) -> Option<i64> {
    let has_ended = row.phase() == ContainerPhase::Exited && row.started_at != 0;
    if !has_ended || row.stopped || pod.phase() != PodPhase::Ready {
        return None;
    }
    let policy = row.config.as_ref().and_then(|config| Policy::of(config).ok())?;
    let delay = i64::try_from(delay(row).as_nanos()).unwrap_or(i64::MAX);
    policy.wants(row).then(|| row.finished_at.saturating_add(delay))
}

/// Whether a stop of a container has to be on record.
pub(crate) fn has_policy(row: &Container) -> bool {
    let config = row.config.as_ref();
    config.is_some_and(|config| Policy::of(config).is_ok_and(|policy| policy != Policy::No))
}

fn was_well(row: &Container) -> bool {
    u128::try_from(row.finished_at - row.started_at).is_ok_and(|ran| ran >= WELL.as_nanos())
}

fn delay(row: &Container) -> Duration {
    let delays = if was_well(row) { 0 } else { row.delays.min(MOST_DELAYS) };
    FIRST.saturating_mul(1 << delays).min(LONGEST)
}

/// How many delays there were in a row, once this one is over.
pub(crate) fn delays(row: &Container) -> u32 {
    if was_well(row) { 1 } else { row.delays.saturating_add(1).min(MOST_DELAYS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn pod() -> Pod {
        Pod { phase: PodPhase::Ready.into(), ..Pod::default() }
    }

    fn ended(policy: &str, code: i32, seconds: i64) -> Container {
        let annotations = [(ANNOTATION.to_owned(), policy.to_owned())].into();
        Container {
            config: Some(ContainerConfig { annotations, ..ContainerConfig::default() }),
            phase: ContainerPhase::Exited.into(),
            exit_code: code,
            started_at: 1,
            finished_at: 1 + seconds * SECOND,
            ..Container::default()
        }
    }

    #[test]
    fn policies_are_read_as_docker_writes_them() {
        for (text, policy) in [
            ("no", Policy::No),
            ("always", Policy::Always),
            ("unless-stopped", Policy::Always),
            ("on-failure", Policy::OnFailure(None)),
            ("on-failure:0", Policy::OnFailure(None)),
            ("on-failure:3", Policy::OnFailure(Some(3))),
        ] {
            assert_eq!(Policy::parse(text), Some(policy), "{text}");
        }
        for text in ["", "Always", "on-failure:", "on-failure:-1", "on-failure:x", "always:1"] {
            let row = ended(text, 1, 0);
            let fault = Policy::of(&row.config.clone().unwrap()).unwrap_err();
            assert!(matches!(fault, Fault::InvalidArgument(_)), "{text}: {fault}");
            assert_eq!(due(&pod(), &row), None);
        }
    }

    #[test]
    fn end_is_followed_by_a_start_if_the_policy_wants_it() {
        let is_due = |row: &Container| due(&pod(), row).is_some();
        for (policy, code, again) in [
            ("no", 1, false),
            ("always", 0, true),
            ("on-failure", 0, false),
            ("on-failure", 1, true),
            ("on-failure:2", 1, true),
        ] {
            assert_eq!(is_due(&ended(policy, code, 1)), again, "{policy} {code}");
        }
        let often = Container { restarts: 2, ..ended("on-failure:2", 1, 1) };
        let stopped = Container { stopped: true, ..ended("always", 1, 1) };
        let runs = ContainerPhase::Running.into();
        let runs = Container { phase: runs, ..ended("always", 1, 1) };
        let never_ran = Container { started_at: 0, ..ended("always", 128, 1) };
        for row in [often, stopped, runs, never_ran] {
            assert!(!is_due(&row), "{row:?}");
        }
        let over = Pod { phase: PodPhase::Stopped.into(), ..Pod::default() };
        assert_eq!(due(&over, &ended("always", 1, 1)), None);
    }

    #[test]
    fn delay_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() {
        let mut row = ended("always", 1, 1);
        let mut all = Vec::new();
        for _ in 0..12 {
            all.push((due(&pod(), &row).unwrap() - row.finished_at) / 1_000_000);
            row.delays = delays(&row);
        }
        let expected =
            [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(all, expected);
        row.finished_at = row.started_at + 10 * SECOND;
        assert_eq!(due(&pod(), &row).unwrap() - row.finished_at, SECOND / 10);
        assert_eq!(delays(&row), 1);
        row.delays = u32::MAX;
        row.finished_at = 0;
        assert!(due(&pod(), &row).is_some() && delays(&row) == MOST_DELAYS);
    }
}
