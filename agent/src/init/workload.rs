//! The second process: everything between its release and the workload's program.

use std::os::fd::OwnedFd;

use super::failure::Context;
use super::premade::Premade;
use super::{
    Channel, Inherited, capabilities, credentials, devices, hooks, identity, keyring, masks,
    mounts, namespaces, program, rlimits, root, scheduling, seccomp, stdio, terminal, uts,
};
use crate::control::{Command, Failure, Order, Report};
use crate::oci::Process;
use crate::sys;

/// Prepares this process as ordered and executes the workload's program. Returns only on failure.
pub(super) fn become_workload(
    channel: &mut Channel,
    mut order: Order,
    inherited: Inherited,
) -> Result<(), Failure> {
    let Inherited { streams, confinement, mut premade } = inherited;
    prepare_place(&order, &mut premade)?;
    // From here on, the container's files are the only ones.
    let identity = identity::look_up(&order)?;
    order.process.user = identity.user.clone();
    let (order, process) = (&order, &order.process);
    attach_streams(channel, order, streams)?;
    rlimits::apply(&process.rlimits)?;
    scheduling::apply_scheduler(process)?;
    if let Some(confinement) = confinement {
        confinement.confine()?;
    }
    let searched = finish_identity(order)?;
    channel.report(&Report::Created { user: identity.user })?;
    channel.expect(Command::Start)?;
    if !order.join {
        hooks::run_start_container(order)?;
    }
    sys::signal::reset_all();
    if let Some(filter) = order.filter.as_ref().filter(|_| process.no_new_privileges) {
        seccomp::install(filter)?;
    }
    Err(searched.execute(process, &identity.home))
}

/// What belongs to the process's session and, unless it joins one, its container.
fn prepare_place(order: &Order, premade: &mut Premade) -> Result<(), Failure> {
    let process = &order.process;
    if !process.selinux_label.is_empty() {
        return Err(Failure::configuration("selinuxLabel: the guest has no SELinux policy"));
    }
    scheduling::apply(process, &order.spec.linux, order.join)?;
    rustix::process::setsid().context("start a session")?;
    keyring::join(order)?;
    if !order.join {
        namespaces::enter_new_cgroup(&order.spec.linux)?;
        build_container(order, premade)?;
    }
    Ok(())
}

/// Mounts, devices and root of a container to be made.
fn build_container(order: &Order, premade: &mut Premade) -> Result<(), Failure> {
    let spec = &order.spec;
    root::prepare(spec)?;
    let rootfs = root::open(&spec.root.path)?;
    mounts::mount_all(spec, &rootfs, &order.cgroup, premade)?;
    devices::create_all(spec, &rootfs)?;
    hooks::run_create_container(order)?;
    uts::set_names(spec)?;
    uts::set_sysctls(&spec.linux.sysctl)?;
    root::enter(spec)?;
    masks::apply(&spec.linux)
}

fn attach_streams(channel: &Channel, order: &Order, streams: Vec<OwnedFd>) -> Result<(), Failure> {
    let process = &order.process;
    if process.terminal {
        let (controller, terminal) = terminal::open(process.console_size)?;
        channel.report_terminal(&controller)?;
        terminal::attach(terminal, &process.user, !order.join)
    } else {
        stdio::attach(streams, &process.user)
    }?;
    if !order.join {
        root::seal(&order.spec, &process.cwd)?;
    }
    Ok(())
}

/// Drops privileges and finds the program, in the order that keeps each step permitted.
fn finish_identity(order: &Order) -> Result<program::Program, Failure> {
    let process = &order.process;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
    }
    // With a new user, the old directory may not be reachable; with the old, the user's may not
    // (a home on a share that squashes root). Either is enough, as with runc.
    let entered = program::enter_directory(process, true)?;
    if let Some(filter) = order.filter.as_ref().filter(|_| !process.no_new_privileges) {
        // Only possible while CAP_SYS_ADMIN is there.
        seccomp::install(filter)?;
    }
    let capabilities = capabilities::of(order);
    capabilities::limit_bounding(&capabilities)?;
    credentials::become_user(&process.user)?;
    capabilities::set(&capabilities)?;
    if !entered {
        program::enter_directory(process, false)?;
    }
    program::find(process)
}

/// `process.oomScoreAdj`; the child of this process inherits it.
pub(super) fn set_oom_score(process: &Process) -> Result<(), Failure> {
    // The agent's own protection must not be inherited.
    let score = process.oom_score_adj.unwrap_or(0);
    if !(-1000..=1000).contains(&score) {
        return Err(Failure::configuration(format_args!("oomScoreAdj {score}: not -1000 to 1000")));
    }
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).context("set oomScoreAdj")
}
