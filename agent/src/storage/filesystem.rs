//! Filesystems of the guest that need no device: a tmpfs that containers share, an overlay.

use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, StatxAttributes, StatxFlags, Uid, fchmod, fchown};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{Error, Result};
use crate::init::{Rooted, bind_place, mount_detached};

/// What to mount, and where.
#[derive(Debug)]
pub(crate) struct Filesystem {
    /// Absolute path, created if missing.
    pub(crate) point: String,
    /// Filesystem type.
    pub(crate) fstype: String,
    /// Options of mount(8).
    pub(crate) options: Vec<String>,
    /// Made below the point.
    pub(crate) directories: Vec<Directory>,
}

/// A directory to make where nothing is.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Relative to the mount point.
    pub(crate) path: String,
    /// Permission bits of a new one.
    pub(crate) mode: u32,
    /// User and group of a new one.
    pub(crate) owner: (u32, u32),
}

/// Mounts a filesystem unless something is mounted there, and makes its directories. Two at the
/// same place must not be mounted at once.
///
/// # Errors
/// It can't be mounted, or a directory not be made.
pub(crate) fn mount(filesystem: &Filesystem) -> Result<()> {
    let Filesystem { point, fstype, options, directories } = filesystem;
    let doing = || format!("mount {fstype} at {point}");
    if !point.starts_with('/') {
        return Err(Error::Invalid(format!("{}: mount point is not absolute", doing())));
    }
    std::fs::create_dir_all(point).map_err(Error::io(doing()))?;
    if !is_mounted(point).map_err(Error::io(doing()))? {
        match fstype.as_str() {
            "bind" => mount_part(options, point)?,
            _ => mount_detached(fstype, fstype, options, point).map_err(Error::io(doing()))?,
        }
    }
    make_directories(point, directories)
}

/// Mounts a directory of another mount once more. Its path is found as if that mount were the root.
/// The attack: an image whose links lead to what the guest itself has.
fn mount_part(options: &[String], point: &str) -> Result<()> {
    let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let (Some(source), Some(path)) = (option("source="), option("path=")) else {
        return Err(Error::Invalid(format!("mount a part at {point}: of what is not said")));
    };
    let doing = || format!("mount directory {path:?} of {source} at {point}");
    let part = Rooted::open(Path::new(source)).and_then(|root| root.directory(Path::new(path)));
    let part = part.map_err(Error::io(doing()))?;
    bind_place(&part, point).map_err(Error::io(doing()))
}

/// Unmounts what is at `point`; nothing there is fine.
///
/// # Errors
/// It is in use.
pub(crate) fn unmount(point: &str) -> Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::io(format!("unmount {point}"))(error)),
    }
}

fn is_mounted(point: &str) -> rustix::io::Result<bool> {
    let place = (rustix::fs::CWD, AtFlags::SYMLINK_NOFOLLOW);
    let found = rustix::fs::statx(place.0, point, place.1, StatxFlags::MODE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Makes directories below `root`. The attack: a container that has put a link where one is
/// to be made in what it can write.
pub(super) fn make_directories(root: &str, directories: &[Directory]) -> Result<()> {
    for directory in directories {
        let doing = || format!("make directory {:?} in {root}", directory.path);
        make(Path::new(root), directory).map_err(Error::io(doing()))?;
    }
    Ok(())
}

fn make(root: &Path, directory: &Directory) -> rustix::io::Result<()> {
    let path = Path::new(&directory.path);
    let Some(made) = Rooted::open(root)?.make_directory(path)? else { return Ok(()) };
    let (user, group) = directory.owner;
    fchown(&made, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    fchmod(&made, Mode::from_raw_mode(directory.mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Directory, Filesystem, make_directories, mount, unmount};

    fn filesystem(point: &std::path::Path, fstype: &str, options: &[&str]) -> Filesystem {
        Filesystem {
            point: point.to_str().unwrap().into(),
            fstype: fstype.into(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            directories: vec![Directory { path: "sub".into(), mode: 0o1777, owner: (1, 2) }],
        }
    }

    /// Mounting needs root, which the agent always is.
    #[test]
    fn memory_is_mounted_once_and_layers_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("made/memory");
        let memory = filesystem(&point, "tmpfs", &["size=65536", "mode=750", "nodev"]);
        mount(&memory).unwrap();
        std::fs::write(point.join("sub/file"), "stays").unwrap();
        mount(&memory).unwrap();
        assert_eq!(std::fs::read(point.join("sub/file")).unwrap(), b"stays");
        assert!(std::fs::write(point.join("much"), vec![0; 1 << 17]).is_err());
        std::fs::remove_file(point.join("much")).unwrap();
        assert_eq!(point.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        for (name, file) in [("upper layer", "a"), ("lower", "b")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join(file), name).unwrap();
        }
        for name in ["changes", "work"] {
            std::fs::create_dir(point.join(name)).unwrap();
        }
        let at = |option: &str, path: std::path::PathBuf| format!("{option}={}", path.display());
        let options = [
            at("lowerdir+", dir.path().join("upper layer")),
            at("lowerdir+", dir.path().join("lower")),
            at("upperdir", point.join("changes")),
            at("workdir", point.join("work")),
        ];
        let root = dir.path().join("root");
        mount(&filesystem(&root, "overlay", &options.each_ref().map(String::as_str))).unwrap();
        assert!(root.join("a").exists() && root.join("b").exists() && root.join("sub").is_dir());
        for place in [&root, &point, &point] {
            unmount(place.to_str().unwrap()).unwrap();
        }
        assert!(!point.join("sub").exists() && !root.join("a").exists());
    }

    /// Mounting needs root, which the agent always is.
    #[test]
    fn part_of_a_mount_is_found_inside_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::create_dir_all(image.join("etc/deep")).unwrap();
        std::fs::write(image.join("etc/passwd"), "inside").unwrap();
        for (link, target) in [("out", "/etc"), ("up", "../../../etc"), ("gone", "/nowhere")] {
            std::os::unix::fs::symlink(target, image.join(link)).unwrap();
        }
        let point = dir.path().join("part");
        let part = |path: &str| {
            let options = [format!("source={}", image.display()), format!("path={path}")];
            let filesystem = filesystem(&point, "bind", &options.each_ref().map(String::as_str));
            mount(&Filesystem { directories: Vec::new(), ..filesystem })
        };
        for path in ["etc", "/etc/", "out", "up", "../etc"] {
            part(path).unwrap();
            assert_eq!(std::fs::read(point.join("passwd")).unwrap(), b"inside", "{path}");
            unmount(point.to_str().unwrap()).unwrap();
        }
        for path in ["gone", "nothing", "etc/passwd"] {
            let error = format!("{:?}", part(path).unwrap_err());
            assert!(error.contains(path), "{error}");
            assert!(std::fs::read_dir(&point).unwrap().next().is_none());
        }
    }

    #[test]
    fn directories_are_made_once_and_only_inside() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let directory = |path: &str, mode| Directory { path: path.into(), mode, owner: (0, 0) };
        let path = root.path().to_str().unwrap();
        make_directories(path, &[directory("a/b", 0o1777), directory("link/c", 0o700)]).unwrap();
        let mode = || root.path().join("a/b").metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o1777);
        make_directories(path, &[directory("a/b", 0o700)]).unwrap();
        assert_eq!(mode(), 0o1777);
        assert!(!outside.path().join("c").exists());
        // A file that is there is what was asked for, too: kubelet can't know.
        std::fs::write(root.path().join("file"), "").unwrap();
        make_directories(path, &[directory("file", 0o700)]).unwrap();
    }
}
