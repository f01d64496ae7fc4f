//! Which pods and containers a list shows (pure).

use std::collections::HashMap;

use protocol::cri::{ContainerFilter, PodSandboxFilter};

use crate::row::{Container, Pod};

/// Whether a list with this filter shows a pod.
pub(super) fn pod(filter: Option<&PodSandboxFilter>, row: &Pod) -> bool {
    if !row.is_listed() {
        return false;
    }
    let Some(PodSandboxFilter { id, state, label_selector }) = filter else { return true };
    let labels = row.config.as_ref().map(|config| &config.labels);
    row.id.starts_with(&**id)
        && state.as_ref().is_none_or(|value| value.state() == row.state())
        && has(labels, label_selector)
}

/// Whether a list with this filter shows a container.
pub(super) fn container(filter: Option<&ContainerFilter>, row: &Container) -> bool {
    if !row.is_listed() {
        return false;
    }
    let Some(ContainerFilter { id, state, pod_sandbox_id, label_selector }) = filter else {
        return true;
    };
    let labels = row.config.as_ref().map(|config| &config.labels);
    row.id.starts_with(&**id)
        && row.pod.starts_with(&**pod_sandbox_id)
        && state.as_ref().is_none_or(|value| value.state() == row.state())
        && has(labels, label_selector)
}

fn has(labels: Option<&HashMap<String, String>>, wanted: &HashMap<String, String>) -> bool {
    let found = |name: &String| labels.and_then(|labels| labels.get(name));
    wanted.iter().all(|(name, value)| found(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use protocol::cri::{ContainerConfig, ContainerState, ContainerStateValue, PodSandboxConfig};

    use super::*;
    use crate::row::{ContainerPhase, PodPhase};

    fn labels() -> HashMap<String, String> {
        [("app".to_owned(), "web".to_owned())].into()
    }

    #[test]
    fn parts_of_a_filter_are_all_meant() {
        let config = Some(ContainerConfig { labels: labels(), ..ContainerConfig::default() });
        let phase = ContainerPhase::Running.into();
        let (id, pod) = ("abc".to_owned(), "p1".to_owned());
        let row = Container { id, pod, config, phase, ..Container::default() };
        assert!(container(None, &row));
        let state = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
        let all = ContainerFilter {
            id: "ab".into(),
            state,
            pod_sandbox_id: "p1".into(),
            label_selector: labels(),
        };
        assert!(container(Some(&all), &row));
        let exited = Some(ContainerStateValue { state: ContainerState::ContainerExited.into() });
        let others = [
            ContainerFilter { id: "x".into(), ..all.clone() },
            ContainerFilter { state: exited, ..all.clone() },
            ContainerFilter { pod_sandbox_id: "p2".into(), ..all.clone() },
            ContainerFilter { label_selector: [("app".into(), "db".into())].into(), ..all },
        ];
        assert!(others.iter().all(|filter| !container(Some(filter), &row)));
    }

    #[test]
    fn pods_are_shown_once_they_run_and_until_they_are_gone() {
        let shown = |phase: PodPhase| {
            let config = Some(PodSandboxConfig::default());
            pod(None, &Pod { config, phase: phase.into(), ..Pod::default() })
        };
        assert!(!shown(PodPhase::Starting));
        assert!([PodPhase::Ready, PodPhase::Stopped, PodPhase::Removing].into_iter().all(shown));
    }
}
