//! What the first process of the guest does before it serves: filesystems, cgroups, limits,
//! loopback. Every step costs boot time, so there is none that no container needs.

mod filesystems;
mod limits;

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};

use crate::cgroup;
use crate::sys;

/// A step of the boot that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A filesystem of the guest could not be mounted.
    #[error("mount {target}")]
    Mount {
        /// Where it belongs.
        target: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Controllers could not be handed to the pod's cgroup.
    #[error("prepare cgroups")]
    Cgroups(#[source] cgroup::CgroupError),
}

/// Mounts what everything else needs.
///
/// # Errors
/// A filesystem could not be mounted.
pub(crate) fn mount() -> Result<(), BootError> {
    rustix::process::umask(rustix::fs::Mode::empty());
    // The kernel has mounted /dev: even a failing mount can be told.
    crate::kernel_log::install();
    filesystems::mount_all()?;
    crate::kernel_log::follow_kernel();
    Ok(())
}

/// Prepares the guest for containers, after [`mount`]. Steps without which containers can still
/// run only log their failure.
///
/// # Errors
/// The cgroup hierarchy could not be set up.
pub(crate) fn prepare() -> Result<(), BootError> {
    cgroup::prepare_root().map_err(BootError::Cgroups)?;
    best_effort("protect the agent from the OOM killer", protect_from_oom());
    best_effort("keep the agent in memory", keep_in_memory());
    limits::raise();
    best_effort("bring up loopback", sys::net::bring_up_loopback());
    best_effort("let an idle guest sleep", rest_from_compaction());
    Ok(())
}

/// Prepares what a component test on another host needs: cgroups, and orphans that come to this
/// process although it is not the first one.
///
/// # Errors
/// The cgroup hierarchy could not be set up.
pub(crate) fn prepare_test() -> Result<(), BootError> {
    rustix::process::umask(rustix::fs::Mode::empty());
    cgroup::prepare_root().map_err(BootError::Cgroups)?;
    let adopt = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    best_effort("adopt orphans", adopt.map_err(io::Error::from));
    Ok(())
}

fn best_effort(step: &str, result: io::Result<()>) {
    if let Err(error) = result {
        log::warn!("{step}: {error}");
    }
}

fn protect_from_oom() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "-1000")
}

/// Keeps every page of the agent that has been used once: a pod that fills the machine's memory must
/// not make the agent read its own program from its disk again before it can answer the host.
/// Nothing of it is in a cgroup that could be short of memory.
fn keep_in_memory() -> io::Result<()> {
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(mlockall(all)?)
}

/// Stops the kernel from looking for fragmented memory twice a second, which would wake an idle
/// guest; it compacts when somebody wants huge pages all the same (sysctl/vm.rst).
fn rest_from_compaction() -> io::Result<()> {
    std::fs::write("/proc/sys/vm/compaction_proactiveness", "0")
}
