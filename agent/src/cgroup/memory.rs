//! Want of memory: limits, and the kernel's kills. A kill is counted in the cgroup of the process
//! that was killed, whoever's limit it was for (`mm/oom_kill.c`, `__oom_kill_process`).

use std::fmt::{self, Display};
use std::path::Path;

use super::{Cgroup, CgroupError, Changes, pod, read, write};

/// What there was too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scarce {
    /// Memory within the container's limit.
    Container(String),
    /// Memory within the limit of all containers together.
    Pod(String),
    /// The machine's memory.
    Machine,
}

impl Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(limit) => write!(
                f,
                "the container's memory limit (memory.max) is {limit} bytes, too low to start a \
                 process"
            ),
            Self::Pod(limit) => {
                write!(f, "all containers together have used up the pod's limit of {limit} bytes")
            }
            Self::Machine => write!(f, "the machine's memory is used up"),
        }
    }
}

/// Limits what all containers may use together, in bytes.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn limit_pod(bytes: u64) -> Result<(), CgroupError> {
    write(&pod(), "memory.max", &bytes.to_string())
}

impl Cgroup {
    /// How many of its processes the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        read(&self.path, "memory.events").map_or(0, |text| oom_kills_in(&text))
    }

    /// What a process was probably killed for.
    pub(crate) fn scarce(&self) -> Scarce {
        scarce(&self.path, &pod())
    }

    /// Watches the count of processes that the kernel killed for want of memory.
    pub(crate) fn watch_oom(&self) -> Result<Changes, CgroupError> {
        Changes::watch(&self.path, "memory.events")
    }
}

impl Changes {
    /// Processes that the kernel killed for want of memory, if this is `memory.events`.
    pub(crate) fn oom_kills(&self) -> Result<u64, CgroupError> {
        self.text().map(|text| oom_kills_in(&text))
    }
}

/// The nearest cgroup of which the kernel found the limit reached.
fn scarce(container: &Path, pod: &Path) -> Scarce {
    let limit = |cgroup| {
        let events = read(cgroup, "memory.events.local").unwrap_or_default();
        let limit = || read(cgroup, "memory.max").unwrap_or_default().trim().to_owned();
        (count(&events, "oom ") > 0).then(limit)
    };
    let container = limit(container).map(Scarce::Container);
    container.or_else(|| limit(pod).map(Scarce::Pod)).unwrap_or(Scarce::Machine)
}

/// The kills in the text of `memory.events`.
fn oom_kills_in(text: &str) -> u64 {
    count(text, "oom_kill ")
}

fn count(text: &str, name: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix(name));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Scarce, oom_kills_in, scarce};

    #[test]
    fn the_oom_counter_is_not_another_one() {
        assert_eq!(oom_kills_in("low 0\noom 5\noom_kill 3\noom_group_kill 1\n"), 3);
        assert_eq!(oom_kills_in(""), 0);
    }

    #[test]
    fn the_limit_that_was_reached_is_named() {
        let pod = tempfile::tempdir().unwrap();
        let container = pod.path().join("c");
        std::fs::create_dir(&container).unwrap();
        let state = |path: &std::path::Path, limit: &str, oom: u32| {
            std::fs::write(path.join("memory.max"), format!("{limit}\n")).unwrap();
            let events = format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill 4\noom_group_kill 0\n");
            std::fs::write(path.join("memory.events.local"), events).unwrap();
        };
        state(&container, "max", 0);
        state(pod.path(), "67108864", 0);
        assert_eq!(scarce(&container, pod.path()), Scarce::Machine);
        state(pod.path(), "67108864", 1);
        let found = scarce(&container, pod.path());
        assert_eq!(found, Scarce::Pod("67108864".to_owned()));
        assert!(found.to_string().contains("the pod's limit of 67108864 bytes"), "{found}");
        state(&container, "4096", 1);
        assert_eq!(scarce(&container, pod.path()), Scarce::Container("4096".to_owned()));
    }
}
