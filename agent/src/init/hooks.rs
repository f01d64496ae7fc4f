//! `hooks.createContainer` and `hooks.startContainer`, the kinds that run inside the guest.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{ioctl_fionbio, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use oci_spec::runtime::{Hook, Hooks};

use super::failure::Context;
use crate::control::{Failure, Order};

/// Longest time in seconds for a hook that states none. Without it one that hangs would keep the
/// container's id, and the pod's user namespace, for ever. Less than the host waits for a call.
const PATIENCE: u64 = agent_api::HOOK_SECONDS;

/// In the container's namespaces, before its root is entered.
pub(super) fn run_create_container(order: &Order) -> Result<(), Failure> {
    run_all(order, "creating", Hooks::create_container)
}

/// Inside the container, just before its program.
pub(super) fn run_start_container(order: &Order) -> Result<(), Failure> {
    run_all(order, "created", Hooks::start_container)
}

fn run_all(
    order: &Order,
    status: &str,
    select: impl Fn(&Hooks) -> &Option<Vec<Hook>>,
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
    for hook in select(hooks).iter().flatten() {
        run(hook, state.to_string().as_bytes())
            .map_err(|reason| Failure::program(format_args!("hook {:?}: {reason}", hook.path())))?;
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let environment = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let stated = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let limit = stated.filter(|seconds| *seconds > 0).unwrap_or(PATIENCE);
    let ended = follow(&mut child, state, Duration::from_secs(limit));
    if !matches!(ended, Ok(true)) {
        // It may have ended since; then there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match ended {
        Ok(true) if status.success() => Ok(()),
        Ok(true) => Err(status.to_string()),
        Ok(false) => Err(format!("not done after {limit} s")),
        Err(failure) => Err(failure.message),
    }
}

/// Gives a hook its input and waits for its end; false if the time is over before.
fn follow(child: &mut Child, mut state: &[u8], limit: Duration) -> Result<bool, Failure> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the hook")?;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        // A hook that does not read must not hold up who waits for it.
        ioctl_fionbio(stdin, true).context("prepare the hook's input")?;
    }
    let began = Instant::now();
    loop {
        let left = Timespec::try_from(limit.saturating_sub(began.elapsed())).ok();
        let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
        watched.extend(stdin.as_ref().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        if retry_on_intr(|| poll(&mut watched, left.as_ref())).context("wait for the hook")? == 0 {
            return Ok(false);
        }
        if !watched[0].revents().is_empty() {
            return Ok(true);
        }
        let written = stdin.as_mut().map_or(Ok(0), |stdin| stdin.write(state));
        state = match written {
            Ok(count) => &state[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => state,
            // It has closed its input without reading it.
            Err(_) => &[],
        };
        if state.is_empty() {
            stdin = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_shell(script: &str, limit: u64) -> bool {
        // More than a pipe holds.
        let state = vec![b' '; 1 << 20];
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let ended = follow(&mut child, &state, Duration::from_secs(limit)).unwrap();
        let _gone = child.kill();
        ended && child.wait().unwrap().success()
    }

    #[test]
    fn hook_gets_all_its_input_or_none_as_it_likes() {
        assert!(follow_shell("test $(wc -c) = 1048576", 60));
        assert!(follow_shell("exec <&-; exit 0", 60));
        assert!(follow_shell("exit 0", 60));
    }

    #[test]
    fn hook_that_hangs_has_an_end_whether_it_reads_or_not() {
        let began = Instant::now();
        assert!(!follow_shell("exec sleep 100", 1));
        assert!(!follow_shell("cat >/dev/null; exec sleep 100", 1));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
