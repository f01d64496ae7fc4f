//! Why a pod that has run does not run any more.

use harness::cri::{Cri, Daemon, api};

use crate::pod::Running;

/// How many of the guest's last lines are told.
const LINES: usize = 8;

/// What CRI, the shim and the guest's console tell of it.
pub(super) fn story(daemon: &Daemon, running: &Running) -> String {
    let id = &running.pod.id;
    let log = daemon.log();
    let mut ends = log.lines().filter(|line| line.contains("machine over") && line.contains(id));
    let console = std::fs::read_to_string(running.directory().join("console.log"));
    let console = console.map_or_else(|error| format!("none: {error}"), |text| tail(&text));
    format!(
        "{}; log of the shim: {:?}; console: {console:?}",
        states(&daemon.cri(), running),
        ends.next_back().unwrap_or("no end of the machine"),
    )
}

/// CRI's states of pod and container.
fn states(cri: &Cri, running: &Running) -> String {
    let mut service = cri.runtime_service();
    let pod_sandbox_id = running.pod.id.clone();
    let request = api::PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
    let pod = match cri.wait(service.pod_sandbox_status(request)) {
        Ok(answer) => answer.status.map_or_else(String::new, |pod| format!("{:?}", pod.state())),
        Err(error) => error.to_string(),
    };
    let container_id = running.container.id.clone();
    let request = api::ContainerStatusRequest { container_id, verbose: false };
    let container = match cri.wait(service.container_status(request)) {
        Ok(answer) => answer.status.map_or_else(String::new, |container| {
            let api::ContainerStatus { reason, message, exit_code, .. } = &container;
            format!("{:?}, {reason:?}, {message:?}, exit code {exit_code}", container.state())
        }),
        Err(error) => error.to_string(),
    };
    format!("pod {}: {pod}; container: {container}", running.pod.id)
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told() {
        let text: String = (0..20).map(|n| format!("{n}\n")).collect();
        assert_eq!(tail(&text), "12\n13\n14\n15\n16\n17\n18\n19");
        assert_eq!(tail(""), "");
    }
}
