//! Mounts whose files have other owners than on the disk (mount_setattr(2), `MOUNT_ATTR_IDMAP`):
//! for containers in user namespaces. The machine serves what the host's mount shows, so mapping
//! here is enough; the guest has nothing to do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use syscalls::mount::map_ids;
use syscalls::user_namespace::{IdRange, map_file, with_maps};

/// Users and groups of a mount's files: those inside are on the disk, those outside are shown.
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
        let mut next = || numbers.next().flatten();
        let range = IdRange { inside: next()?, outside: next()?, size: next()? };
        numbers.next().is_none().then_some(range)
    };
    text.split(',').map(range).collect()
}

/// Shows the files of a tree that is attached nowhere with mapped ids.
///
/// # Errors
/// What the kernel answered: its filesystem may not support it.
pub(super) fn map(tree: BorrowedFd<'_>, recursive: bool, maps: &IdMaps) -> io::Result<()> {
    let lines = |ranges: &[IdRange]| map_file(ranges.iter().copied());
    let owner = with_maps(&lines(&maps.uids), &lines(&maps.gids))?;
    map_ids(tree, recursive, owner.as_fd()).map_err(|error| {
        let reason = format!("its filesystem can't show other owners: {error}");
        io::Error::new(error.kind(), reason)
    })
}

#[cfg(test)]
mod tests {

    use api::request::Mount;

    use super::super::{Options, Tree};
    use super::*;

    fn maps(host: u32) -> IdMaps {
        let range = vec![IdRange { inside: 0, outside: host, size: 65_536 }];
        IdMaps { uids: range.clone(), gids: range }
    }

    #[test]
    fn maps_are_taken_out_of_options() {
        let options = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let mut mapped = options(&["index=off", "uidmap=0:5:10,10:90:1", "gidmap=0:6:10"]);
        let found = IdMaps::take(&mut mapped).unwrap().unwrap();
        assert_eq!(mapped, ["index=off"]);
        assert_eq!(found.uids[1], IdRange { inside: 10, outside: 90, size: 1 });
        assert_eq!(found.gids, [IdRange { inside: 0, outside: 6, size: 10 }]);
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
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::chown(dir.path().join("file"), Some(33), Some(34)).unwrap();
        let options = Options { ids: Some(maps(100_000)), ..Options::parse(&[]) };
        let tree = Tree::of(dir.path(), &options).unwrap();
        let seen = rustix::fs::statat(&tree, "file", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!((seen.st_uid, seen.st_gid), (100_033, 100_034));
    }

    #[test]
    fn layers_of_an_overlay_are_mapped_and_nothing_else_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "scratch"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join(name), "").unwrap();
        }
        let (a, b) = (path("a").display().to_string(), path("b").display().to_string());
        let options = vec![
            format!("lowerdir={a}:{b}"),
            "uidmap=0:7:65536".to_owned(),
            "gidmap=0:7:65536".to_owned(),
        ];
        let fstype = "overlay".to_owned();
        let mut mount = Mount { fstype, options, ..Mount::default() };
        let tree = Tree::mounted(&mount, &path("scratch")).unwrap();
        for name in ["a", "b"] {
            let seen = rustix::fs::statat(&tree, name, rustix::fs::AtFlags::empty()).unwrap();
            assert_eq!(seen.st_uid, 7);
        }
        assert!(path("scratch/scratch").exists());
        let table = std::fs::read_to_string(super::super::table::PATH).unwrap();
        assert!(!table.contains(dir.path().to_str().unwrap()));
        mount.options[0] = "lowerdir=/nowhere".to_owned();
        assert!(Tree::mounted(&mount, &path("scratch")).is_err());
    }
}
