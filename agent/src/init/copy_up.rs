//! The mount option `tmpcopyup`, runc's own: a tmpfs begins with what it hides.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat,
};

type Result<T> = std::io::Result<T>;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies the directory `hidden` with all that is in it into the empty one at `to`.
pub(super) fn copy_up(hidden: &OwnedFd, to: &OwnedFd, keep_mode: bool) -> Result<()> {
    let (hidden, to) = (directory(hidden, c".")?, directory(to, c".")?);
    copy_content(&hidden, &to)?;
    if keep_mode {
        return Ok(());
    }
    let found = rustix::fs::fstat(&hidden)?;
    rustix::fs::fchown(&to, user(&found), group(&found))?;
    Ok(rustix::fs::fchmod(&to, mode(&found))?)
}

fn directory(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    Ok(openat(parent, name, DIRECTORY, Mode::empty())?)
}

fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy(from, to, name)?;
        }
    }
    Ok(())
}

/// Copies one entry. Whoever could change the image meanwhile does not run yet.
fn copy(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            copy_content(&directory(from, name)?, &directory(to, name)?)?;
        }
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut source = File::from(openat(from, name, read, Mode::empty())?);
            let mut target = File::from(openat(to, name, create, Mode::RUSR)?);
            std::io::copy(&mut source, &mut target)?;
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            return own(to, name, &found);
        }
        // Nobody listens to it any more.
        FileType::Socket => return Ok(()),
        other => mknodat(to, name, other, Mode::empty(), found.st_rdev)?,
    }
    own(to, name, &found)?;
    Ok(chmodat(to, name, mode(&found), AtFlags::empty())?)
}

fn own(to: impl AsFd, name: &CStr, found: &Stat) -> Result<()> {
    Ok(chownat(to, name, user(found), group(found), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn user(found: &Stat) -> Option<Uid> {
    Some(Uid::from_raw(found.st_uid))
}

fn group(found: &Stat) -> Option<Gid> {
    Some(Gid::from_raw(found.st_gid))
}

fn mode(found: &Stat) -> Mode {
    Mode::from_raw_mode(found.st_mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn everything_is_copied_with_its_mode() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [from, to] = dirs.each_ref().map(tempfile::TempDir::path);
        std::fs::create_dir(from.join("dir")).unwrap();
        std::fs::write(from.join("dir/file"), "content").unwrap();
        std::fs::set_permissions(from.join("dir"), PermissionsExt::from_mode(0o1751)).unwrap();
        std::fs::set_permissions(from, PermissionsExt::from_mode(0o710)).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        let open = |path: &std::path::Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        copy_up(&open(from), &open(to), false).unwrap();
        assert_eq!(std::fs::read(to.join("dir/file")).unwrap(), b"content");
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), std::path::Path::new("/nowhere"));
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&to.join("dir")), mode(to)), (0o1751, 0o710));
    }
}
