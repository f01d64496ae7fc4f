//! The mounts of containerd's EROFS snapshotter (containerd 2.2 and later, `docs/mounts.md` there).
//! They are image layers as EROFS files, sometimes a disk image to write to, and a last mount that
//! joins them. The options of the last one name the others by their number: `{{ mount 0 }}/upper`,
//! `lowerdir={{ overlay 1 3 }}`. Pure.

use std::path::PathBuf;

use api::Error;
use api::request::Mount;

use super::disk_plan::{DISKS, DiskPlan, unsupported};

/// Layers on disks, and how they are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The disks, by the numbers that the others are named by.
    pub disks: Vec<DiskPlan>,
    /// How they become a root filesystem.
    pub join: Join,
}

/// What the last mount does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// A directory of one of the disks is the root filesystem.
    Directory(DiskPath),
    /// An overlay.
    Overlay {
        /// Read-only directories, the top one first.
        lower: Vec<DiskPath>,
        /// Where changes go.
        upper: Upper,
        /// Further options.
        options: Vec<String>,
    },
}

/// Where an overlay's changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// Nothing can be changed.
    None,
    /// To directories of a disk.
    Disk {
        /// The changes.
        upper: DiskPath,
        /// The overlay's own.
        work: DiskPath,
    },
    /// To directories of the host. No overlay in the guest can use them, because their
    /// filesystem lacks what that needs: they get a disk image of their own.
    Host {
        /// The changes; its mode and owner are those of the root directory.
        upper: PathBuf,
        /// The overlay's own.
        work: PathBuf,
    },
}

/// A directory of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPath {
    /// The disk's number.
    pub disk: usize,
    /// Path in it, empty or beginning with a slash.
    pub path: String,
}

impl Layers {
    /// Whether `mounts` are of this kind: several, some of them disks.
    pub(super) fn are_in(mounts: &[Mount]) -> bool {
        let disk = |mount: &Mount| DISKS.contains(&mount.fstype.as_str());
        mounts.len() > 1 && mounts.iter().any(disk)
    }

    /// Reads the mounts.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what no snapshotter is known to make.
    pub(super) fn new(mounts: &[Mount]) -> Result<Self, Error> {
        let Some((last, disks)) = mounts.split_last() else { return Err(unsupported(mounts, 0)) };
        if let Some(at) = disks.iter().position(|m| !DISKS.contains(&m.fstype.as_str())) {
            return Err(unsupported(mounts, at));
        }
        let join = match last.fstype.trim_start_matches("format/").trim_start_matches("mkdir/") {
            "bind" => Join::Directory(one(&last.source, disks.len())?),
            "overlay" => overlay(&last.options, disks.len())?,
            _ => return Err(unsupported(mounts, disks.len())),
        };
        let disks = disks.iter().map(DiskPlan::new).collect::<Result<_, _>>()?;
        Ok(Self { disks, join })
    }
}

fn overlay(given: &[String], disks: usize) -> Result<Join, Error> {
    let (mut lower, mut options) = (Vec::new(), Vec::new());
    let (mut upper, mut work) = (None, None);
    for option in given {
        if let Some(value) = option.strip_prefix("lowerdir=") {
            lower = expand(value, disks)?;
        } else if let Some(value) = option.strip_prefix("upperdir=") {
            upper = Some(value);
        } else if let Some(value) = option.strip_prefix("workdir=") {
            work = Some(value);
        } else if option.starts_with("uidmap=") || option.starts_with("gidmap=") {
            return Err(Error::Invalid(format!("layers with mapped ids ({option}) in a guest")));
        } else if !option.starts_with("X-containerd.") {
            options.push(option.clone());
        }
    }
    let upper = match (upper, work) {
        (Some(upper), Some(work)) if upper.contains("{{") => {
            Upper::Disk { upper: one(upper, disks)?, work: one(work, disks)? }
        }
        (Some(upper), Some(work)) => Upper::Host { upper: upper.into(), work: work.into() },
        _ => Upper::None,
    };
    if lower.is_empty() {
        return Err(Error::Invalid("an overlay of layers without a lowerdir".into()));
    }
    Ok(Join::Overlay { lower, upper, options })
}

/// One directory.
fn one(text: &str, disks: usize) -> Result<DiskPath, Error> {
    match expand(text, disks)?.as_slice() {
        [path] => Ok(path.clone()),
        _ => Err(Error::Invalid(format!("{text:?}: not one directory of a layer"))),
    }
}

/// Directories joined by colons: `{{ mount N }}/path` is in disk N, `{{ overlay N M }}` are
/// the disks from N to M, in either direction.
fn expand(text: &str, disks: usize) -> Result<Vec<DiskPath>, Error> {
    let bad = || Error::Invalid(format!("{text:?}: no directories of {disks} layers"));
    let mut found = Vec::new();
    for part in text.split(':') {
        let call = part.strip_prefix("{{").and_then(|rest| rest.split_once("}}"));
        let (call, path) = call.ok_or_else(bad)?;
        let words: Vec<&str> = call.split_whitespace().collect();
        let number = |word: &str| word.parse().ok().filter(|n| *n < disks).ok_or_else(bad);
        let whole = |disk| DiskPath { disk, path: String::new() };
        match words.as_slice() {
            ["mount", disk] if path.is_empty() || path.starts_with('/') => {
                found.push(DiskPath { disk: number(disk)?, path: path.to_owned() });
            }
            ["overlay", from, to] if path.is_empty() => {
                let (from, to): (usize, usize) = (number(from)?, number(to)?);
                match from <= to {
                    true => found.extend((from..=to).map(whole)),
                    false => found.extend((to..=from).rev().map(whole)),
                }
            }
            _ => return Err(bad()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(fstype: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            fstype: fstype.into(),
            source: source.into(),
            options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Mount::default()
        }
    }

    fn whole(disk: usize) -> DiskPath {
        DiskPath { disk, path: String::new() }
    }

    fn in_disk(disk: usize, path: &str) -> DiskPath {
        DiskPath { disk, path: path.into() }
    }

    #[test]
    fn image_to_write_to_lies_over_the_layers() {
        let mounts = [
            mount("ext4", "/s/9/rwlayer.img", &["X-containerd.mkfs.fs=ext4", "rw", "loop"]),
            mount("erofs", "/s/2/layer.erofs", &["ro", "loop"]),
            mount("erofs", "/s/1/layer.erofs", &["ro", "loop"]),
            mount(
                "format/mkdir/overlay",
                "overlay",
                &[
                    "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
                    "workdir={{ mount 0 }}/work",
                    "upperdir={{ mount 0 }}/upper",
                    "lowerdir={{ overlay 1 2 }}",
                    "index=off",
                ],
            ),
        ];
        assert!(Layers::are_in(&mounts));
        let layers = Layers::new(&mounts).unwrap();
        let read_only: Vec<_> = layers.disks.iter().map(|disk| disk.read_only).collect();
        assert_eq!(read_only, [false, true, true]);
        let upper = Upper::Disk { upper: in_disk(0, "/upper"), work: in_disk(0, "/work") };
        let options = vec!["index=off".to_owned()];
        let lower = vec![whole(1), whole(2)];
        assert_eq!(layers.join, Join::Overlay { lower, upper, options });
    }

    #[test]
    fn directories_of_the_host_are_told_apart() {
        let mounts = [
            mount("erofs", "/s/1/layer.erofs", &["ro", "loop"]),
            mount(
                "format/mkdir/overlay",
                "overlay",
                &["workdir=/s/9/work", "upperdir=/s/9/fs", "lowerdir={{ mount 0 }}"],
            ),
        ];
        let layers = Layers::new(&mounts).unwrap();
        let upper = Upper::Host { upper: "/s/9/fs".into(), work: "/s/9/work".into() };
        let lower = vec![whole(0)];
        assert_eq!(layers.join, Join::Overlay { lower, upper, options: Vec::new() });
    }

    #[test]
    fn directory_of_a_disk_can_be_the_root() {
        let view = [
            mount("erofs", "/s/meta.erofs", &["ro", "loop", "device=/s/1.erofs"]),
            mount("format/bind", "{{ mount 0 }}", &["ro", "rbind"]),
        ];
        let layers = Layers::new(&view).unwrap();
        assert_eq!(layers.join, Join::Directory(whole(0)));
        let first = [
            mount("ext4", "/s/rwlayer.img", &["rw", "loop"]),
            mount("format/mkdir/bind", "{{ mount 0 }}/upper", &["rw", "rbind"]),
        ];
        let layers = Layers::new(&first).unwrap();
        assert_eq!(layers.join, Join::Directory(in_disk(0, "/upper")));
    }

    #[test]
    fn ranges_go_both_ways_and_stay_inside() {
        let disks = |text| expand(text, 3).map(|found| found.iter().map(|p| p.disk).collect());
        let disks = |text| disks(text).map(|found: Vec<usize>| found);
        assert_eq!(disks("{{ overlay 0 2 }}").unwrap(), [0, 1, 2]);
        assert_eq!(disks("{{overlay 2 0}}:{{ mount 1 }}").unwrap(), [2, 1, 0, 1]);
        for bad in ["{{ overlay 0 3 }}", "/host", "{{ mount 1 }}x", "{{ source 1 }}", "{{ mount"] {
            assert!(disks(bad).is_err(), "{bad}");
        }
    }
}
