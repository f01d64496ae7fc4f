//! Mounts that are attached nowhere yet. They are made of what the host has mounted at that moment.
//! They get all their flags before anybody sees them: flags that change later would not reach the
//! machine's namespace.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use api::request::Mount;
use rustix::fs::CWD;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, move_mount,
    open_tree,
};
use syscalls::mount::{MountAttributes, set_attributes};

use super::{IdMaps, Options, compact, idmap, namespace};

/// Flags of single mounts, of mount(2) and of mount_setattr(2).
const FLAGS: [(MountFlags, MountAttrFlags); 6] = [
    (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
    (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
    (MountFlags::STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    // All bits zero: chosen by clearing the others.
    (MountFlags::RELATIME, MountAttrFlags::MOUNT_ATTR_RELATIME),
];

/// Flags that exclude each other.
const ATIME: MountFlags =
    MountFlags::NOATIME.union(MountFlags::STRICTATIME).union(MountFlags::RELATIME);

/// One or more mounts, gone with the value unless they are attached.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// What the host has at `source`, with the flags of `options` besides its own. What is mounted
    /// below the source later is not in it: the kernel would show that with devices and
    /// set-user-id programs.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn of(source: &Path, options: &Options) -> io::Result<Self> {
        Self::at(CWD, source, options)
    }

    /// The same of a place that is open.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn of_place(place: BorrowedFd<'_>, options: &Options) -> io::Result<Self> {
        Self::at(place, Path::new(""), options)
    }

    fn at(directory: BorrowedFd<'_>, path: &Path, options: &Options) -> io::Result<Self> {
        let tree = clone(directory, path, options.recursive)?;
        if let Some(maps) = &options.ids {
            idmap::map(tree.as_fd(), options.recursive, maps)?;
        }
        let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.all_read_only);
        let propagation = MountPropagationFlags::PRIVATE;
        let all = MountAttributes { set, propagation, ..MountAttributes::KEEP };
        set_attributes(tree.as_fd(), options.recursive, &all)?;
        set_attributes(tree.as_fd(), false, &attributes(options.flags))?;
        Ok(Self(tree))
    }

    /// What mount(2) makes of `mount`. `scratch` is any directory of the host; nothing happens to
    /// it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn mounted(mount: &Mount, scratch: &Path) -> io::Result<Self> {
        let mut options = Options::parse(&mount.options);
        options.ids = IdMaps::take(&mut options.data)?;
        if mount.fstype == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind") {
            return Self::of(Path::new(&mount.source), &options);
        }
        // Where the filesystem and what it is made of are mounted for a moment; all of that is
        // gone with the thread.
        let make = || {
            namespace::leave()?;
            new(mount, options, scratch)
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        made.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }

    /// A read-only copy of the directory or file `place`, without what is mounted below it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn read_only(place: BorrowedFd<'_>) -> io::Result<Self> {
        let options = Options { flags: MountFlags::RDONLY, ..Options::parse(&[]) };
        Self::of_place(place, &options)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn clone(directory: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags |= OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(directory, path, flags)?)
}

/// What flags of mount(2) are to mount_setattr(2) (pure). Those of whole filesystems are left out.
fn attributes(flags: MountFlags) -> MountAttributes {
    let mut change = MountAttributes::KEEP;
    for (flag, attribute) in FLAGS {
        if flags.contains(flag) {
            change.set |= attribute;
        }
    }
    if flags.intersects(ATIME) {
        change.clear = MountAttrFlags::MOUNT_ATTR__ATIME;
    }
    change
}

/// Mounts a filesystem in this thread's own namespace.
fn new(mount: &Mount, mut options: Options, scratch: &Path) -> io::Result<Tree> {
    let none = MountFlags::empty();
    rustix::mount::mount("tmpfs", scratch, "tmpfs", none, c"")?;
    let point = scratch.join("root");
    std::fs::create_dir(&point)?;
    if let Some(maps) = options.ids.take() {
        map_layers(&scratch.join("layers"), &mut options.data, &maps)?;
    }
    let (directory, data) = compact(&options.data);
    if let Some(directory) = directory {
        std::env::set_current_dir(directory)?;
    }
    let flags = options.flags | MountFlags::NODEV | MountFlags::NOSUID;
    let (source, fstype) = (mount.source.as_str(), mount.fstype.as_str());
    rustix::mount::mount(source, &point, fstype, flags, &*CString::new(data)?)?;
    clone(CWD, &point, false).map(Tree)
}

/// Mounts the layers of the option `lowerdir=` below `directory` with mapped ids, and names them
/// there: an overlay keeps what it was made of. To be done in a namespace that ends soon.
///
/// # Errors
/// What the kernel answered.
fn map_layers(directory: &Path, options: &mut [String], maps: &IdMaps) -> io::Result<()> {
    let mut number = 0;
    for option in options {
        let Some(list) = option.strip_prefix("lowerdir=") else { continue };
        let mut shown = Vec::new();
        for layer in list.split(':') {
            let place = directory.join(number.to_string());
            std::fs::create_dir_all(&place)?;
            let wanted = Options { ids: Some(maps.clone()), ..Options::parse(&[]) };
            let tree = Tree::of(Path::new(layer), &wanted)?;
            move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            number += 1;
            shown.push(place.to_string_lossy().into_owned());
        }
        *option = format!("lowerdir={}", shown.join(":"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_times_exclude_each_other_and_the_rest_is_kept() {
        let change = attributes(MountFlags::RDONLY | MountFlags::NOATIME | MountFlags::DIRSYNC);
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOATIME;
        assert_eq!((change.set, change.clear), (set, MountAttrFlags::MOUNT_ATTR__ATIME));
        assert_eq!(attributes(MountFlags::empty()), MountAttributes::KEEP);
    }
}
