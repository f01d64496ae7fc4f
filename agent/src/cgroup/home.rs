//! The cgroup in which a process is, proc_pid_cgroup(5).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{CgroupError, ROOT};

/// The cgroup of a process.
///
/// # Errors
/// It has ended.
pub(super) fn of(pid: i32) -> Result<PathBuf, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let table = std::fs::read(&path).map_err(|source| CgroupError::Read { path, source })?;
    Ok(find(&table))
}

/// The cgroup of version 2 in a table. A container names its own cgroups, in any bytes.
fn find(table: &[u8]) -> PathBuf {
    let home = table.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"));
    Path::new(ROOT).join(OsStr::from_bytes(home.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn home_is_found_whatever_its_name() {
        let table = b"1:name=systemd:/x\n0::/pod/a/\xffleaf\n";
        assert_eq!(find(table).as_os_str().as_encoded_bytes(), b"/sys/fs/cgroup/pod/a/\xffleaf");
    }
}
