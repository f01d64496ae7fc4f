//! `process.scheduler`, `ioPriority`, `execCPUAffinity` and `linux.personality`.

use rustix::thread::CpuSet;

use super::failure::Context;
use crate::control::Failure;
use crate::oci::linux::Personality;
use crate::oci::process::{IoPriority, Scheduler};
use crate::oci::{Linux, Process};
use crate::sys::process::set_personality;
use crate::sys::scheduling::{SchedulingAttributes, set_io_priority, set_scheduler};

/// Applies what does not hinder the work of this process, while still privileged.
pub(super) fn apply(process: &Process, linux: &Linux, exec: bool) -> Result<(), Failure> {
    if let Some(priority) = &process.io_priority {
        apply_io_priority(priority)?;
    }
    if let Some(personality) = &linux.personality {
        set_personality(persona(personality)?).context("set personality")?;
    }
    match process.exec_cpu_affinity.as_ref().filter(|_| exec) {
        Some(affinity) => set_affinity(&affinity.last),
        None => Ok(()),
    }
}

/// `process.execCPUAffinity.initial`: before an exec is in its container's cgroup.
pub(super) fn apply_initial_affinity(process: &Process) -> Result<(), Failure> {
    process.exec_cpu_affinity.as_ref().map_or(Ok(()), |affinity| set_affinity(&affinity.initial))
}

/// `process.scheduler`, after everything that needs another process: a deadline task may not fork.
pub(super) fn apply_scheduler(process: &Process) -> Result<(), Failure> {
    let Some(scheduler) = &process.scheduler else { return Ok(()) };
    set_scheduler(attributes(scheduler)?)
        .map_err(|error| Failure::configuration(format_args!("set scheduler: {error}")))
}

fn apply_io_priority(priority: &IoPriority) -> Result<(), Failure> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Failure::configuration(format_args!("ioPriority class {other:?}"))),
    };
    set_io_priority(class, priority.priority)
        .map_err(|error| Failure::configuration(format_args!("set ioPriority: {error}")))
}

fn attributes(scheduler: &Scheduler) -> Result<SchedulingAttributes, Failure> {
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Failure::configuration(format_args!("scheduler policy {other:?}"))),
    };
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(Failure::configuration(format_args!("scheduler flag {other:?}"))),
        };
    }
    let priority = u32::try_from(scheduler.priority)
        .map_err(|_| Failure::configuration("scheduler priority is negative"))?;
    Ok(SchedulingAttributes {
        size: 0,
        policy,
        flags,
        nice: scheduler.nice,
        priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

fn persona(personality: &Personality) -> Result<libc::c_ulong, Failure> {
    if let Some(flag) = personality.flags.first() {
        return Err(Failure::configuration(format_args!("personality flag {flag:?}")));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Failure::configuration(format_args!("personality domain {other:?}"))),
    }
}

fn set_affinity(list: &str) -> Result<(), Failure> {
    let bad = || Failure::configuration(format_args!("execCPUAffinity {list:?}"));
    let set = cpu_set(list).ok_or_else(bad)?;
    if set.count() == 0 {
        return Ok(());
    }
    rustix::thread::sched_setaffinity(None, &set).map_err(|_| bad())
}

/// Reads a list such as `0-3,7`.
fn cpu_set(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::{Scheduler, attributes, cpu_set};

    #[test]
    fn lists_of_cpus_are_read() {
        let members = |list| {
            let set = cpu_set(list).unwrap();
            (0..16).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>()
        };
        assert_eq!(members("0-3,7"), [0, 1, 2, 3, 7]);
        assert_eq!(members(" 5 , 4"), [4, 5]);
        assert!(members("").is_empty());
        for bad in ["x", "3-1", "0-99999", "-1", "1-"] {
            assert!(cpu_set(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn unknown_words_of_a_scheduler_are_refused_by_name() {
        let read = |json: &str| {
            let scheduler: Scheduler = serde_json::from_str(json).unwrap();
            attributes(&scheduler).map_err(|failure| failure.message)
        };
        let deadline = r#"{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3,
            "flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM"]}"#;
        let found = read(deadline).unwrap();
        assert_eq!((found.policy, found.flags), (6, 3));
        assert_eq!((found.runtime, found.deadline, found.period), (1, 2, 3));
        assert!(read(r#"{"policy":"SCHED_X"}"#).unwrap_err().contains("SCHED_X"));
        assert!(read(r#"{"policy":"SCHED_RR","flags":["F"]}"#).unwrap_err().contains("\"F\""));
        assert!(read(r#"{"policy":"SCHED_RR","priority":-1}"#).is_err());
    }
}
