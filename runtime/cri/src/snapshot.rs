//! All pods and containers at one moment. Lists and statuses are made of this alone: no shim is
//! asked, and nobody waits for a pod that is busy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fault::Fault;
use crate::row::{Container, Pod};

/// Least digits of an id that stand for the whole.
const LEAST_DIGITS: usize = 4;

/// Everything that is on record, by id. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// The pods.
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
    /// The containers.
    pub(crate) containers: BTreeMap<String, Arc<Container>>,
}

impl Snapshot {
    /// The pod that is named by its id or by the beginning of it.
    ///
    /// # Errors
    /// [`Fault::NotFound`], and [`Fault::InvalidArgument`] when more than one begins so.
    pub(crate) fn pod(&self, id: &str) -> Result<&Arc<Pod>, Fault> {
        find(&self.pods, id, "pod sandbox", |pod| pod.is_listed())
    }

    /// The container that is named by its id or by the beginning of it.
    ///
    /// # Errors
    /// As [`Self::pod`].
    pub(crate) fn container(&self, id: &str) -> Result<&Arc<Container>, Fault> {
        find(&self.containers, id, "container", |container| container.is_listed())
    }

    /// The containers of a pod that lists show.
    pub(crate) fn containers_of<'a>(
        &'a self,
        pod: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Container>> {
        self.containers.values().filter(move |row| row.pod == pod && row.is_listed())
    }
}

fn find<'a, T>(
    rows: &'a BTreeMap<String, Arc<T>>,
    id: &str,
    what: &str,
    listed: impl Fn(&T) -> bool,
) -> Result<&'a Arc<T>, Fault> {
    let shown = api::text::printable(id, 80);
    if let Some(row) = rows.get(id).filter(|row| listed(row)) {
        return Ok(row);
    }
    let missing = || Fault::NotFound(format!("no {what} {shown:?}"));
    if id.len() < LEAST_DIGITS {
        return Err(missing());
    }
    let mut found = rows
        .range(id.to_owned()..)
        .take_while(|(name, _)| name.starts_with(id))
        .map(|(_, row)| row)
        .filter(|row| listed(row));
    let row = found.next().ok_or_else(missing)?;
    match found.next() {
        None => Ok(row),
        Some(_) => {
            Err(Fault::InvalidArgument(format!("more than one {what} begins with {shown:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::PodPhase;

    fn snapshot() -> Snapshot {
        let pod = |id: &str, phase: PodPhase| {
            let row = Pod { id: id.into(), phase: phase.into(), ..Pod::default() };
            (row.id.clone(), Arc::new(row))
        };
        let pods = [
            pod("aaaa11", PodPhase::Ready),
            pod("aaaa22", PodPhase::Stopped),
            pod("bbbb11", PodPhase::Ready),
            pod("bbbb22", PodPhase::Starting),
        ];
        Snapshot { pods: pods.into(), ..Snapshot::default() }
    }

    #[test]
    fn beginning_of_an_id_is_enough_when_it_names_one() {
        let all = snapshot();
        assert_eq!(all.pod("aaaa11").unwrap().id, "aaaa11");
        assert_eq!(all.pod("bbbb").unwrap().id, "bbbb11", "one that starts is not named");
        assert!(matches!(all.pod("aaaa"), Err(Fault::InvalidArgument(_))));
        for missing in ["", "aaa", "cccc", "bbbb22"] {
            let fault = all.pod(missing).unwrap_err();
            assert!(matches!(&fault, Fault::NotFound(text) if text.contains(missing)), "{fault}");
        }
    }
}
