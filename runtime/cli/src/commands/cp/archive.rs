//! Archives of files here. One that a container wrote may hold anything: nothing of it leaves the
//! directory that it is for.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// Writes a file or a directory as an archive, by this name.
///
/// # Errors
/// What can't be read, or that nobody reads any more.
pub(super) fn pack(from: &Path, name: &OsStr, to: impl Write) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    let packed = match from.is_dir() {
        true => archive.append_dir_all(name, from),
        false => archive.append_path_with_name(from, name),
    };
    packed.and_then(|()| archive.finish()).with_context(|| format!("packing {}", from.display()))
}

/// Unpacks the one file or directory of an archive as `to`, in place of a file that is there.
///
/// # Errors
/// What can't be written, or that the archive has not one thing in it.
pub(super) fn unpack_as(from: impl Read, to: &Path) -> anyhow::Result<()> {
    let doing = || format!("writing {}", to.display());
    let beside = match to.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => bail!("{} has no name", to.display()),
    };
    // Beside its target, so that it only has to be renamed.
    let scratch = tempfile::Builder::new().prefix(".cuddy-cp-").tempdir_in(beside);
    let scratch = scratch.with_context(doing)?;
    unpack(from, scratch.path())?;
    let mut all = std::fs::read_dir(scratch.path()).with_context(doing)?;
    match (all.next(), all.next()) {
        (Some(Ok(only)), None) => std::fs::rename(only.path(), to).with_context(doing),
        _ => bail!("writing {}: the archive has not one thing in it", to.display()),
    }
}

/// Unpacks an archive into the directory `to`, as files of this user.
///
/// # Errors
/// What can't be written, or does not belong there.
pub(super) fn unpack(from: impl Read, to: &Path) -> anyhow::Result<()> {
    if !to.is_dir() {
        bail!("{} is no directory", to.display());
    }
    let mut archive = tar::Archive::new(from);
    let doing = || format!("unpacking into {}", to.display());
    for entry in archive.entries().with_context(doing)? {
        let mut entry = entry.with_context(doing)?;
        let kind = entry.header().entry_type();
        let plain = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        let name = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
        if !plain {
            bail!("{name:?} is a device or the like: it was not copied");
        }
        if !entry.unpack_in(to).with_context(doing)? {
            bail!("{name:?} would leave {}", to.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, target) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if !target.is_empty() {
                header.set_link_name(target).unwrap();
            }
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn directory_arrives_as_it_was() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = from.path().join("d");
        fs::create_dir_all(directory.join("e")).unwrap();
        fs::write(directory.join("e/f"), "text").unwrap();
        std::os::unix::fs::symlink("e/f", directory.join("l")).unwrap();
        let mut bytes = Vec::new();
        pack(&directory, OsStr::new("d"), &mut bytes).unwrap();
        unpack(&*bytes, to.path()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("d/l")).unwrap(), "text");
        assert!(to.path().join("d/l").is_symlink());
    }

    #[test]
    fn one_file_arrives_by_the_name_of_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a"), "new").unwrap();
        fs::write(at("b"), "old").unwrap();
        let mut bytes = Vec::new();
        pack(&at("a"), OsStr::new("a"), &mut bytes).unwrap();
        unpack_as(&*bytes, &at("b")).unwrap();
        assert_eq!(fs::read_to_string(at("b")).unwrap(), "new");
        assert!(unpack_as(&*bytes, &at("none/c")).unwrap_err().to_string().contains("none/c"));
        let two =
            archive(&[(tar::EntryType::Regular, "x", ""), (tar::EntryType::Regular, "y", "")]);
        unpack_as(&*two, &at("c")).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn nothing_of_an_archive_leaves_its_directory() {
        use tar::EntryType::{Fifo, Link, Regular, Symlink};
        let outer = tempfile::tempdir().unwrap();
        let to = outer.path().join("to");
        fs::create_dir(&to).unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        let through = [(Symlink, "l", ".."), (Regular, "l/written", "")];
        for entries in [
            &[(Regular, "../written", "")][..],
            &through,
            &[(Link, "h", "../secret")],
            &[(Fifo, "written", "")],
        ] {
            unpack(&*archive(entries), &to).unwrap_err();
            assert!(!outer.path().join("written").exists(), "{entries:?}");
        }
        assert!(!to.join("h").exists());
    }
}
