//! Mounting on the host: options as mount(8) writes them, the mount table, and undoing.
//!
//! Nothing that a guest sees has device nodes or set-user-id programs on the host's side. The
//! attack: a VMM that its guest has taken over makes a node of the host's disk in a container's
//! root filesystem, or finds one in its image, and opens it. The guest has devices of its own.

mod attributes;
mod idmap;
pub(crate) mod table;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

pub use self::idmap::{IdMaps, IdRange};
use crate::events::Mount;

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

/// Mounts `mount` at `target`, which must exist. `stage` is as for [`bind`].
///
/// # Errors
/// What the kernel answered.
pub fn mount(mount: &Mount, target: &Path, stage: &Path) -> io::Result<()> {
    let mut options = Options::parse(&mount.options);
    options.ids = IdMaps::take(&mut options.data)?;
    if mount.fstype == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind") {
        return bind(Path::new(&mount.source), target, &options, stage);
    }
    let maps = options.ids.take();
    // Dropped when the overlay has taken over what it needs of them.
    let _layers =
        maps.map(|maps| idmap::Layers::mount(stage, &mut options.data, &maps)).transpose()?;
    let (directory, data) = compact(&options.data);
    let text = CString::new(data)?;
    let call = || {
        let fstype = mount.fstype.as_str();
        let flags = options.flags | MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount(mount.source.as_str(), target, fstype, flags, &*text)
    };
    match directory {
        None => Ok(call()?),
        Some(directory) => {
            // The working directory is the process's: nothing else runs before it is back,
            // because the runtime has one thread and there is no await in between.
            let back = std::env::current_dir()?;
            std::env::set_current_dir(directory)?;
            let mounted = call();
            std::env::set_current_dir(back)?;
            Ok(mounted?)
        }
    }
}

/// Shows `source` at `target`, with the flags of `options`.
///
/// The mount is finished at `stage`, a name that is free, and only then shown at `target`: the
/// machine's namespace gets a copy of it at that moment, which later changes of flags would not
/// reach. What is mounted below the source later is not seen: the kernel would show it with
/// devices and set-user-id programs.
///
/// # Errors
/// What the kernel answered; nothing stays mounted then.
pub fn bind(source: &Path, target: &Path, options: &Options, stage: &Path) -> io::Result<()> {
    if std::fs::metadata(source)?.is_dir() {
        std::fs::create_dir_all(stage)?;
    } else {
        File::create(stage)?;
    }
    let first = match &options.ids {
        Some(maps) => idmap::bind(source, stage, options.recursive, maps),
        None => bind_once(source, stage, options.recursive),
    };
    let bound = first.and_then(|()| {
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(stage, apart)?;
        attributes::restrict(stage, options.all_read_only)?;
        if !options.flags.is_empty() {
            let flags = options.flags | MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount_remount(stage, flags | MountFlags::BIND, c"")?;
        }
        bind_once(stage, target, options.recursive)
    });
    detach(stage)?;
    if stage.is_dir() {
        std::fs::remove_dir(stage)?;
    } else {
        std::fs::remove_file(stage)?;
    }
    bound
}

fn bind_once(source: &Path, target: &Path, recursive: bool) -> io::Result<()> {
    let bound = if recursive {
        rustix::mount::mount_bind_recursive(source, target)
    } else {
        rustix::mount::mount_bind(source, target)
    };
    Ok(bound?)
}

/// Shows `source` at `directory`, read-only, as a mount whose later mounts reach other namespaces.
///
/// # Errors
/// What the kernel answered.
pub fn share(source: &Path, directory: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(source, directory)?;
    let read_only = MountFlags::RDONLY | MountFlags::BIND;
    let shared = rustix::mount::mount_remount(directory, read_only, c"")
        .and_then(|()| rustix::mount::mount_change(directory, MountPropagationFlags::SHARED));
    if shared.is_err() {
        detach(directory)?;
    }
    Ok(shared?)
}

/// Unmounts what is on `target`; busy users keep it until they let go. Nothing there is fine.
///
/// # Errors
/// What the kernel answered.
pub fn detach(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Unmounts everything at and below `directory`.
///
/// # Errors
/// When something is still mounted there afterwards.
pub fn detach_below(directory: &Path) -> io::Result<()> {
    // The table knows no symbolic links on the way. The last part is not followed: it is what
    // shall go.
    let resolved = match (directory.parent(), directory.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => Ok(directory.to_owned()),
    };
    let resolved = match resolved {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        resolved => resolved?,
    };
    // A mount can hide another at the same place, so look again until none is left.
    for _ in 0..16 {
        let table = table::read()?;
        let points = below(&table, &resolved);
        if points.is_empty() {
            return Ok(());
        }
        for point in points.iter().rev() {
            detach(point)?;
        }
    }
    Err(io::Error::other(format!("mounts below {} do not go away", directory.display())))
}

/// Mount points at or below `directory`, parents first.
fn below(table: &[table::Mounted], directory: &Path) -> Vec<PathBuf> {
    let points = table.iter().map(|mounted| mounted.point.clone());
    points.filter(|point| point.starts_with(directory)).collect()
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

    /// Mounting needs root, as all of this crate's work does; the tests run as it.
    #[test]
    fn bind_mount_is_read_only_and_leaves_its_source_alone_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["base", "target"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::create_dir(path("base/sub")).unwrap();
        std::fs::create_dir(path("base/later")).unwrap();
        std::fs::write(path("base/file"), "").unwrap();
        let bind_itself = |at: PathBuf| rustix::mount::mount_bind(&at, &at).unwrap();
        bind_itself(path("base"));
        rustix::mount::mount_change(path("base"), MountPropagationFlags::SHARED).unwrap();
        bind_itself(path("base/sub"));
        let options = Options::parse(&strings(&["rbind", "ro"]));
        bind(&path("base"), &path("target"), &options, &path("stage")).unwrap();
        assert!(path("target/file").exists() && !path("stage").exists());
        assert!(std::fs::write(path("target/new"), "").is_err());
        assert!(std::fs::write(path("base/new"), "").is_ok());
        let table = || table::read().unwrap();
        assert_eq!(below(&table(), &path("target")).len(), 2);
        bind_itself(path("base/later"));
        assert_eq!(below(&table(), &path("target")).len(), 2, "a later mount is seen");
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let target = path("target").display().to_string();
        for line in text.lines().filter(|line| line.contains(&target)) {
            assert!(line.contains("nosuid,nodev"), "{line}");
        }
        detach_below(&path("target")).unwrap();
        assert_eq!(below(&table(), &path("base")).len(), 3, "the source lost a mount");
        detach_below(dir.path()).unwrap();
    }

    #[test]
    fn mounts_are_found_through_a_link_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["real", "real/data", "real/point"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("real/data/precious"), "").unwrap();
        std::os::unix::fs::symlink(path("real"), path("link")).unwrap();
        rustix::mount::mount_bind(path("real/data"), path("real/point")).unwrap();
        detach_below(&path("link/point")).unwrap();
        assert!(!path("real/point/precious").exists());
        detach_below(&path("absent/point")).unwrap();
    }
}
