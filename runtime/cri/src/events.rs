//! What happened between two moments, as clients are told it: the difference of two snapshots
//! (pure). A client that reads slowly is told the difference later, and misses nothing.

use std::sync::Arc;

use protocol::cri::ContainerEventType;

use crate::row::{Container, ContainerPhase, Pod, PodPhase};
use crate::snapshot::Snapshot;

/// Something that happened to a container, or to a pod's sandbox, which has the pod's id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Whose.
    pub(crate) id: String,
    /// What.
    pub(crate) kind: ContainerEventType,
    /// The pod, as it was last.
    pub(crate) pod: Arc<Pod>,
}

/// How far a life is, for clients.
fn steps_of(container: &Container) -> usize {
    match container.phase() {
        ContainerPhase::Creating => 0,
        ContainerPhase::Created => 1,
        ContainerPhase::Running => 2,
        ContainerPhase::Exited | ContainerPhase::Removing => 3,
    }
}

/// A sandbox is created and started at once.
fn steps_of_pod(pod: &Pod) -> usize {
    match pod.phase() {
        PodPhase::Starting => 0,
        PodPhase::Ready => 2,
        PodPhase::Stopped | PodPhase::Removing => 3,
    }
}

const STEPS: [ContainerEventType; 3] = [
    ContainerEventType::ContainerCreatedEvent,
    ContainerEventType::ContainerStartedEvent,
    ContainerEventType::ContainerStoppedEvent,
];

/// The steps between two.
fn passed(from: usize, to: usize) -> impl Iterator<Item = ContainerEventType> {
    STEPS.into_iter().take(to).skip(from)
}

/// What happened from one snapshot to a later one: each step of each life, in its order, pods'
/// beginnings before their containers' and their ends after those.
pub(crate) fn between(before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let (mut begun, ended) = of_pods(before, after);
    begun.extend(of_containers(before, after));
    begun.extend(ended);
    begun
}

/// What happened to pods: what began, and what ended.
fn of_pods(before: &Snapshot, after: &Snapshot) -> (Vec<Event>, Vec<Event>) {
    let mut steps = Vec::new();
    for (id, pod) in &after.pods {
        let from = before.pods.get(id).map_or(0, |pod| steps_of_pod(pod));
        let event = |kind| Event { id: id.clone(), kind, pod: Arc::clone(pod) };
        steps.extend(passed(from, steps_of_pod(pod)).map(event));
    }
    let over = |event: &Event| event.kind == ContainerEventType::ContainerStoppedEvent;
    let (mut ended, begun): (Vec<_>, Vec<_>) = steps.into_iter().partition(over);
    for (id, pod) in before.pods.iter().filter(|(id, _)| !after.pods.contains_key(*id)) {
        if steps_of_pod(pod) > 0 {
            let kind = ContainerEventType::ContainerDeletedEvent;
            ended.push(Event { id: id.clone(), kind, pod: Arc::clone(pod) });
        }
    }
    (begun, ended)
}

/// What happened to containers.
fn of_containers(before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let mut events = Vec::new();
    let pod_of = |container: &Container| {
        after.pods.get(&container.pod).or_else(|| before.pods.get(&container.pod)).cloned()
    };
    for (id, container) in &after.containers {
        let Some(pod) = pod_of(container) else { continue };
        let from = before.containers.get(id).map_or(0, |container| steps_of(container));
        // One that never started has not passed that step.
        let started = container.started_at != 0;
        let kinds = passed(from, steps_of(container))
            .filter(|kind| started || *kind != ContainerEventType::ContainerStartedEvent);
        events.extend(kinds.map(|kind| Event { id: id.clone(), kind, pod: Arc::clone(&pod) }));
    }
    let gone = before.containers.iter().filter(|(id, _)| !after.containers.contains_key(*id));
    for (id, container) in gone.filter(|(_, container)| steps_of(container) > 0) {
        let kind = ContainerEventType::ContainerDeletedEvent;
        events.extend(pod_of(container).map(|pod| Event { id: id.clone(), kind, pod }));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(pod: Option<PodPhase>, container: Option<(ContainerPhase, i64)>) -> Snapshot {
        let mut all = Snapshot::default();
        if let Some(phase) = pod {
            let row = Pod { id: "p".into(), phase: phase.into(), ..Pod::default() };
            all.pods.insert("p".into(), Arc::new(row));
        }
        if let Some((phase, started_at)) = container {
            let (id, pod, phase) = ("c".to_owned(), "p".to_owned(), phase.into());
            let row = Container { id, pod, phase, started_at, ..Container::default() };
            all.containers.insert("c".into(), Arc::new(row));
        }
        all
    }

    fn told(before: &Snapshot, after: &Snapshot) -> Vec<(String, ContainerEventType)> {
        between(before, after).into_iter().map(|event| (event.id, event.kind)).collect()
    }

    #[test]
    fn every_step_is_told_in_order_even_if_none_was_seen() {
        use ContainerEventType::{
            ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
            ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
        };
        let none = Snapshot::default();
        let ended = snapshot(Some(PodPhase::Stopped), Some((ContainerPhase::Exited, 5)));
        let of = |id: &str, kind| (id.to_owned(), kind);
        let all = [
            of("p", Created),
            of("p", Started),
            of("c", Created),
            of("c", Started),
            of("c", Stopped),
            of("p", Stopped),
        ];
        assert_eq!(told(&none, &ended), all);
        assert_eq!(told(&ended, &none), [of("c", Deleted), of("p", Deleted)]);
        assert!(told(&ended, &ended).is_empty());
    }

    #[test]
    fn container_that_never_started_is_not_told_to_have() {
        let ready = snapshot(Some(PodPhase::Ready), None);
        let ended = snapshot(Some(PodPhase::Ready), Some((ContainerPhase::Exited, 0)));
        let kinds: Vec<_> = told(&ready, &ended).into_iter().map(|(_, kind)| kind).collect();
        let steps = [STEPS[0], STEPS[2]];
        assert_eq!(kinds, steps);
    }

    #[test]
    fn what_is_half_made_is_no_event() {
        let ready = snapshot(Some(PodPhase::Ready), None);
        let making = snapshot(Some(PodPhase::Ready), Some((ContainerPhase::Creating, 0)));
        assert!(told(&ready, &making).is_empty());
        assert!(told(&making, &ready).is_empty());
        assert!(told(&Snapshot::default(), &snapshot(Some(PodPhase::Starting), None)).is_empty());
    }
}
