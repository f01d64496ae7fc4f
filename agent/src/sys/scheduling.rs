//! CPU and I/O scheduling of the calling process.
#![allow(unsafe_code, reason = "sched_setattr and ioprio_set are in no safe library")]

use std::io;

/// `struct sched_attr` of linux/sched/types.h, version 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SchedulingAttributes {
    /// Size of this structure; filled by [`set_scheduler`].
    pub(crate) size: u32,
    /// `SCHED_…`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_…`.
    pub(crate) flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub(crate) nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub(crate) priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub(crate) runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub(crate) deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub(crate) period: u64,
}

/// Sets the CPU scheduler, sched_setattr(2).
pub(crate) fn set_scheduler(mut attributes: SchedulingAttributes) -> io::Result<()> {
    attributes.size = u32::try_from(size_of::<SchedulingAttributes>()).map_err(io::Error::other)?;
    // SAFETY: the attributes are live and state their size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    super::check(result).map(drop)
}

/// Sets class (1 real-time, 2 best effort, 3 idle) and level (0 to 7), ioprio_set(2).
pub(crate) fn set_io_priority(class: u16, level: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let priority = (libc::c_long::from(class) << 13) | libc::c_long::from(level);
    // SAFETY: ioprio_set(2) takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    super::check(result).map(drop)
}
