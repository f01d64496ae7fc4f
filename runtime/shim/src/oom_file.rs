//! The file `oom` in a container's bundle. CRI-O takes no events: when a container has ended with
//! an error, this file tells it that the kernel had killed for want of memory.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use api::ContainerId;
use api::events::{Event, EventKind};

/// Name of the file in the bundle.
const NAME: &str = "oom";

/// Where the bundles of a sandbox's containers are.
#[derive(Debug, Default)]
pub(crate) struct OomFiles {
    bundles: HashMap<ContainerId, PathBuf>,
}

impl OomFiles {
    /// Takes an event note of, in the order of events: the file is there before the exit is told.
    pub(crate) fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Created { bundle, .. } => {
                self.bundles.insert(event.container.clone(), bundle.into());
            }
            EventKind::OutOfMemory => {
                if let Some(bundle) = self.bundles.get(&event.container)
                    && let Err(error) = File::create(bundle.join(NAME))
                {
                    log::warn!("writing {}: {error}", bundle.join(NAME).display());
                }
            }
            EventKind::Deleted { .. } => {
                self.bundles.remove(&event.container);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use api::events::Exit;
    use api::request::StdioPaths;

    use super::*;

    #[test]
    fn kill_is_noted_in_the_bundle_of_its_container_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = OomFiles::default();
        let event = |id: &str, kind| Event { container: ContainerId::new(id).unwrap(), kind };
        for id in ["web", "db"] {
            let bundle = dir.path().join(id);
            std::fs::create_dir(&bundle).unwrap();
            let bundle = bundle.display().to_string();
            let (rootfs, stdio) = (Vec::new(), StdioPaths::default());
            files.observe(&event(id, EventKind::Created { bundle, rootfs, stdio, pid: 1 }));
        }
        files.observe(&event("web", EventKind::OutOfMemory));
        assert!(dir.path().join("web/oom").exists() && !dir.path().join("db/oom").exists());
        let exit = Exit { status: 137, at: SystemTime::UNIX_EPOCH };
        files.observe(&event("db", EventKind::Deleted { pid: 1, exit }));
        files.observe(&event("db", EventKind::OutOfMemory));
        assert!(!dir.path().join("db/oom").exists());
    }
}
