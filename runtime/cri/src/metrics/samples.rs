//! The values of one pod's or one container's metrics, each with its labels (pure).

use protocol::cri::{Metric, UInt64Value};

use super::catalogue::{Kind, LABELS};
use crate::pods::Known;
use crate::row;

/// Values that are being gathered.
#[derive(Debug)]
pub(super) struct Samples {
    labels: [String; LABELS.len()],
    timestamp: i64,
    metrics: Vec<Metric>,
}

impl Samples {
    /// Those of a pod as a whole. It has no container's name, as a pod's cgroup has none in
    /// cAdvisor.
    pub(super) fn of_pod(row: &row::Pod, known: &Known) -> Self {
        let metadata = row.metadata();
        let (id, none) = (row.id.clone(), String::new);
        let labels = [id.clone(), id, none(), none(), metadata.name, metadata.namespace];
        Self::new(labels, known)
    }

    /// Those of a container.
    pub(super) fn of_container(pod: &row::Pod, row: &row::Container, known: &Known) -> Self {
        let metadata = pod.metadata();
        let image = row.config.as_ref().and_then(|config| config.image.as_ref());
        let image = image.map(|image| match image.user_specified_image.is_empty() {
            true => image.image.clone(),
            false => image.user_specified_image.clone(),
        });
        let (id, name) = (row.id.clone(), row.metadata().name);
        let image = image.unwrap_or_default();
        Self::new([id.clone(), id, image, name, metadata.name, metadata.namespace], known)
    }

    fn new(labels: [String; LABELS.len()], known: &Known) -> Self {
        // Zero stands for "just now".
        let timestamp = if known.live { 0 } else { known.at };
        Self { labels, timestamp, metrics: Vec::new() }
    }

    /// Takes a value, if there is one, of a metric without more labels.
    pub(super) fn add(&mut self, kind: &Kind, value: impl Into<Option<u64>>) {
        self.add_with(kind, &[], value);
    }

    /// Takes a value, if there is one, with the metric's own labels.
    pub(super) fn add_with(&mut self, kind: &Kind, own: &[&str], value: impl Into<Option<u64>>) {
        debug_assert_eq!(own.len(), kind.labels.len(), "labels of {}", kind.name);
        let Some(value) = value.into() else { return };
        let own = own.iter().map(|&label| label.to_owned());
        self.metrics.push(Metric {
            name: kind.name.to_owned(),
            timestamp: self.timestamp,
            metric_type: kind.of.into(),
            label_values: self.labels.iter().cloned().chain(own).collect(),
            value: Some(UInt64Value { value }),
        });
    }

    /// All of them.
    pub(super) fn done(self) -> Vec<Metric> {
        self.metrics
    }
}
