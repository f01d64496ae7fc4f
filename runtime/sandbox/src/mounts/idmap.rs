//! Mounts whose files have other owners than on the disk (mount_setattr(2), `MOUNT_ATTR_IDMAP`):
//! for containers in user namespaces. The machine serves what the host's mount shows, so mapping
//! here is enough; the guest has nothing to do.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use serde::Deserialize;
use syscalls::mount::map_ids;
use syscalls::user_namespace::{self, map_file};

use super::detach;

/// Ids of files: `containerID..` on the disk are shown as `hostID..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct IdRange {
    /// First id on the disk, which is the container's.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// First id that is shown.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// Users and groups of a mount's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Of users; never empty.
    pub uids: Vec<IdRange>,
    /// Of groups; never empty.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// Takes the options `uidmap=` and `gidmap=` (each `container:host:size` ranges with commas
    /// between) out of containerd's options of a root filesystem.
    ///
    /// # Errors
    /// One of them is missing or no list of ranges.
    pub(super) fn take(options: &mut Vec<String>) -> io::Result<Option<Self>> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "bad uidmap or gidmap");
        let mut take = |prefix: &str| {
            let found = options.iter().position(|option| option.starts_with(prefix));
            let text = found.map(|found| options.remove(found));
            text.map(|text| ranges(&text[prefix.len()..]).ok_or_else(bad)).transpose()
        };
        match (take("uidmap=")?, take("gidmap=")?) {
            (Some(uids), Some(gids)) => Ok(Some(Self { uids, gids })),
            (None, None) => Ok(None),
            _ => Err(bad()),
        }
    }
}

fn ranges(text: &str) -> Option<Vec<IdRange>> {
    let range = |part: &str| {
        let mut numbers = part.split(':').map(|number| number.parse().ok());
        let range =
            IdRange { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? };
        numbers.next().is_none().then_some(range)
    };
    text.split(',').map(range).collect()
}

/// Shows `source` at `target` with mapped ids.
///
/// # Errors
/// What the kernel answered: its filesystem may not support it.
pub(super) fn bind(source: &Path, target: &Path, recursive: bool, maps: &IdMaps) -> io::Result<()> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source, flags)?;
    let owner = user_namespace::with_maps(&lines(&maps.uids), &lines(&maps.gids))?;
    map_ids(tree.as_fd(), recursive, owner.as_fd()).map_err(|error| {
        let reason = format!("its filesystem can't show other owners: {error}");
        io::Error::new(error.kind(), reason)
    })?;
    Ok(move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Layers of an overlay with mapped ids, mounted below a directory as long as the value lives:
/// an overlay keeps what it was made of.
#[derive(Debug)]
pub(super) struct Layers {
    directory: PathBuf,
    mounted: usize,
}

impl Layers {
    /// Mounts the layers of the option `lowerdir=` below `directory`, and names them there.
    ///
    /// # Errors
    /// What the kernel answered; nothing stays mounted then.
    pub(super) fn mount(
        directory: &Path,
        options: &mut [String],
        maps: &IdMaps,
    ) -> io::Result<Self> {
        let mut layers = Self { directory: directory.to_owned(), mounted: 0 };
        std::fs::create_dir_all(directory)?;
        for option in options {
            let Some(list) = option.strip_prefix("lowerdir=") else { continue };
            let mut shown = Vec::new();
            for layer in list.split(':') {
                let place = directory.join(layers.mounted.to_string());
                std::fs::create_dir_all(&place)?;
                bind(Path::new(layer), &place, false, maps)?;
                layers.mounted += 1;
                shown.push(place.to_string_lossy().into_owned());
            }
            *option = format!("lowerdir={}", shown.join(":"));
        }
        Ok(layers)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let gone = (0..=self.mounted).try_for_each(|number| {
            let place = self.directory.join(number.to_string());
            detach(&place)?;
            match std::fs::remove_dir(place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        });
        if let Err(error) = gone.and_then(|()| std::fs::remove_dir(&self.directory)) {
            log::warn!("unmounting layers below {}: {error}", self.directory.display());
        }
    }
}

/// What to write to the kernel's files.
fn lines(ranges: &[IdRange]) -> String {
    map_file(ranges.iter().map(|range| user_namespace::IdRange {
        inside: range.container,
        outside: range.host,
        size: range.size,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn maps(host: u32) -> IdMaps {
        let range = vec![IdRange { container: 0, host, size: 65_536 }];
        IdMaps { uids: range.clone(), gids: range }
    }

    #[test]
    fn maps_are_taken_out_of_options() {
        let options = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let mut mapped = options(&["index=off", "uidmap=0:5:10,10:90:1", "gidmap=0:6:10"]);
        let found = IdMaps::take(&mut mapped).unwrap().unwrap();
        assert_eq!(mapped, ["index=off"]);
        assert_eq!(found.uids[1], IdRange { container: 10, host: 90, size: 1 });
        assert_eq!(found.gids, [IdRange { container: 0, host: 6, size: 10 }]);
        assert_eq!(IdMaps::take(&mut mapped).unwrap(), None);
        for bad in
            [&["uidmap=0:1:2"][..], &["uidmap=0:1", "gidmap=0:1:2"], &["gidmap=", "uidmap=x"]]
        {
            assert!(IdMaps::take(&mut options(bad)).is_err(), "{bad:?}");
        }
    }

    /// Mounting needs root, as all of this crate's work does; the tests run as it.
    #[test]
    fn files_are_shown_with_other_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["source", "target"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("source/file"), "").unwrap();
        std::os::unix::fs::chown(path("source/file"), Some(33), Some(34)).unwrap();
        bind(&path("source"), &path("target"), false, &maps(100_000)).unwrap();
        let seen = std::fs::metadata(path("target/file")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (100_033, 100_034));
        detach(&path("target")).unwrap();
    }

    #[test]
    fn layers_are_gone_when_they_are_not_needed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join(name), "").unwrap();
        }
        let (a, b) = (path("a").display().to_string(), path("b").display().to_string());
        let mut options = vec![format!("lowerdir={a}:{b}"), "index=off".to_owned()];
        let stage = path("stage");
        let layers = Layers::mount(&stage, &mut options, &maps(7)).unwrap();
        let shown = stage.display();
        assert_eq!(options, [format!("lowerdir={shown}/0:{shown}/1"), "index=off".to_owned()]);
        assert_eq!(std::fs::metadata(stage.join("1/b")).unwrap().uid(), 7);
        drop(layers);
        assert!(!stage.exists());
        let mut missing = vec!["lowerdir=/nowhere".to_owned()];
        assert!(Layers::mount(&stage, &mut missing, &maps(7)).is_err());
        assert!(!stage.exists());
    }
}
