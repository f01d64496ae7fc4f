//! Mounts for a machine: options as mount(8) writes them, what is made of them, and where it is
//! shown.
//!
//! Nothing that a guest sees has device nodes or set-user-id programs on the host's side. The
//! attack: a guest takes over its VMM. The VMM makes a node of the host's disk in a container's
//! root filesystem, or finds one in its image. Then it opens the node, and has the host's disk. The
//! guest has devices of its own.

mod idmap;
mod namespace;
mod read_only;
mod share;
pub mod table;
mod tmpfs;
mod tree;

use std::path::{Component, Path, PathBuf};

use rustix::mount::MountFlags;

pub use self::idmap::IdMaps;
pub use self::read_only::open_read_only;
pub use self::share::Share;
pub use self::tmpfs::tmpfs;
pub use self::tree::Tree;

/// mount(2) takes one page of options, its final zero byte included.
const MAX_DATA: usize = 4095;

/// Options of mount(8), sorted into flags and what the filesystem reads itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Flags of mount(2).
    pub flags: MountFlags,
    /// Whether a bind mount takes the mounts below its source with it.
    pub recursive: bool,
    /// Whether these can't be written either.
    pub all_read_only: bool,
    /// Owners that files are shown with; none: their own.
    pub ids: Option<IdMaps>,
    /// Options for the filesystem.
    pub data: Vec<String>,
}

impl Options {
    /// Sorts options. `loop` and containerd's own `X-containerd.*` instructions are left out.
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            recursive: false,
            all_read_only: false,
            ids: None,
            data: Vec::new(),
        };
        for option in options {
            let (flag, set) = match option.as_str() {
                "ro" => (MountFlags::RDONLY, true),
                "rw" => (MountFlags::RDONLY, false),
                "nosuid" => (MountFlags::NOSUID, true),
                "suid" => (MountFlags::NOSUID, false),
                "nodev" => (MountFlags::NODEV, true),
                "dev" => (MountFlags::NODEV, false),
                "noexec" => (MountFlags::NOEXEC, true),
                "exec" => (MountFlags::NOEXEC, false),
                "sync" => (MountFlags::SYNCHRONOUS, true),
                "dirsync" => (MountFlags::DIRSYNC, true),
                "noatime" => (MountFlags::NOATIME, true),
                "nodiratime" => (MountFlags::NODIRATIME, true),
                "relatime" => (MountFlags::RELATIME, true),
                "strictatime" => (MountFlags::STRICTATIME, true),
                "bind" | "defaults" | "async" | "atime" | "loop" => continue,
                "rbind" => {
                    parsed.recursive = true;
                    continue;
                }
                instruction if instruction.starts_with("X-containerd.") => continue,
                other => {
                    parsed.data.push(other.to_owned());
                    continue;
                }
            };
            parsed.flags.set(flag, set);
        }
        parsed
    }
}

/// Joins filesystem options. If they are too long for mount(2), the layers of an overlay are
/// written relative to the directory that they have in common, which is returned as well.
fn compact(options: &[String]) -> (Option<PathBuf>, String) {
    let whole = options.join(",");
    if whole.len() <= MAX_DATA {
        return (None, whole);
    }
    let layers = options.iter().find_map(|option| option.strip_prefix("lowerdir="));
    let layers: Vec<&Path> = layers.into_iter().flat_map(|l| l.split(':')).map(Path::new).collect();
    let Some(common) = common_parent(&layers) else { return (None, whole) };
    let short = options.iter().map(|option| {
        if !option.starts_with("lowerdir=") {
            return option.clone();
        }
        let relative = |layer: &&Path| layer.strip_prefix(&common).unwrap_or(layer).to_owned();
        let layers: Vec<_> =
            layers.iter().map(relative).map(|p| p.to_string_lossy().into_owned()).collect();
        format!("lowerdir={}", layers.join(":"))
    });
    let data = short.collect::<Vec<_>>().join(",");
    (Some(common), data)
}

/// The longest directory that all paths lie in.
fn common_parent(paths: &[&Path]) -> Option<PathBuf> {
    let first = paths.first()?.parent()?;
    let shared = |other: &&Path| {
        first.components().zip(other.components()).take_while(|(a, b)| a == b).count()
    };
    let length = paths.iter().map(shared).min()?;
    let common: PathBuf = first.components().take(length).collect();
    common.components().any(|part| matches!(part, Component::Normal(_))).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn options_are_sorted_and_instructions_to_containerd_dropped() {
        let options = Options::parse(&strings(&[
            "rbind",
            "ro",
            "nosuid",
            "loop",
            "X-containerd.mkfs.size=1",
            "index=off",
        ]));
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert!(options.recursive);
        assert_eq!(options.data, ["index=off"]);
        assert!(Options::parse(&strings(&["ro", "rw"])).flags.is_empty());
    }

    #[test]
    fn deep_images_fit_into_one_page_of_options() {
        let layer = |n| format!("/var/lib/containerd/snapshotter/overlayfs/snapshots/{n}/fs");
        let layers: Vec<_> = (0..100).map(layer).collect();
        let options =
            vec!["upperdir=/var/lib/u".to_owned(), format!("lowerdir={}", layers.join(":"))];
        let (directory, data) = compact(&options);
        let common = "/var/lib/containerd/snapshotter/overlayfs/snapshots";
        assert_eq!(directory.as_deref(), Some(Path::new(common)));
        assert!(data.starts_with("upperdir=/var/lib/u,lowerdir=0/fs:1/fs:"), "{data}");
        assert!(data.len() <= MAX_DATA);
    }

    #[test]
    fn short_options_stay_as_they_are() {
        let options = strings(&["lowerdir=/a:/b", "index=off"]);
        assert_eq!(compact(&options), (None, "lowerdir=/a:/b,index=off".to_owned()));
    }
}
