//! `hooks.createContainer` and `hooks.startContainer`, the kinds that run inside the guest.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::failure::Context;
use crate::control::{Failure, Order};
use crate::oci::{Hook, Hooks};

/// In the container's namespaces, before its root is entered.
pub(super) fn run_create_container(order: &Order) -> Result<(), Failure> {
    run_all(order, "creating", |hooks| &hooks.create_container)
}

/// Inside the container, just before its program.
pub(super) fn run_start_container(order: &Order) -> Result<(), Failure> {
    run_all(order, "created", |hooks| &hooks.start_container)
}

fn run_all(
    order: &Order,
    status: &str,
    select: impl Fn(&Hooks) -> &Vec<Hook>,
) -> Result<(), Failure> {
    let Some(hooks) = &order.spec.hooks else { return Ok(()) };
    let state = serde_json::json!({
        "ociVersion": "1.2.0",
        "id": order.container_id,
        "status": status,
        "pid": std::process::id(),
        "bundle": order.spec.root.path.parent().unwrap_or(&order.spec.root.path),
        "annotations": order.spec.annotations,
    });
    for hook in select(hooks) {
        run(hook, state.to_string().as_bytes())
            .map_err(|reason| Failure::program(format_args!("hook {:?}: {reason}", hook.path)))?;
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its state closes this.
        let _ = stdin.write_all(state);
    }
    wait(&mut child, hook.timeout)
}

fn wait(child: &mut Child, timeout: Option<u64>) -> Result<(), String> {
    if let Some(seconds) = timeout.filter(|seconds| *seconds > 0) {
        let ended = wait_at_most(child, seconds).map_err(|failure| failure.message)?;
        if !ended {
            // It may have ended since; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("not done after {seconds} s"));
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

fn wait_at_most(child: &Child, seconds: u64) -> Result<bool, Failure> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .context("watch the hook")?;
    let timeout = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut watched = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    Ok(poll(&mut watched, Some(&timeout)).context("wait for the hook")? > 0)
}
