//! `process.scheduler`, `ioPriority`, `execCPUAffinity` and `linux.personality`.

use super::failure::Context;
use crate::control::Failure;
use crate::oci::linux::Personality;
use crate::oci::process::{IoPriority, Scheduler};
use crate::oci::{Linux, Process};
use crate::sys::process::set_personality;
use crate::sys::scheduling::{SchedulingAttributes, set_io_priority, set_scheduler};

/// Applies all of them, while still privileged.
pub(super) fn apply(process: &Process, linux: &Linux, exec: bool) -> Result<(), Failure> {
    if let Some(scheduler) = &process.scheduler {
        let attributes = attributes(scheduler)?;
        set_scheduler(attributes)
            .map_err(|error| Failure::configuration(format_args!("set scheduler: {error}")))?;
    }
    if let Some(priority) = &process.io_priority {
        apply_io_priority(priority)?;
    }
    if let Some(personality) = &linux.personality {
        set_personality(persona(personality)?).context("set personality")?;
    }
    if let Some(affinity) = process.exec_cpu_affinity.as_ref().filter(|_| exec) {
        let list = if affinity.last.is_empty() { &affinity.initial } else { &affinity.last };
        set_affinity(list)?;
    }
    Ok(())
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
    let mut set = rustix::thread::CpuSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| bad())?;
        let last: usize = last.parse().map_err(|_| bad())?;
        if last >= rustix::thread::CpuSet::MAX_CPU {
            return Err(bad());
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    if set.count() == 0 {
        return Ok(());
    }
    rustix::thread::sched_setaffinity(None, &set).map_err(|_| bad())
}
