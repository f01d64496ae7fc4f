//! Who is at the other end of a Unix socket (unix(7)).
#![allow(unsafe_code, reason = "no library we use knows SO_PEERGROUPS")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most groups of a process (`NGROUPS_MAX`).
const MOST: usize = 65_536;

/// The supplementary groups that a peer had when it connected.
///
/// # Errors
/// What the kernel answered.
pub fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let size = groups.len() * size_of::<libc::gid_t>();
        let mut size = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: `groups` is live and has `size` bytes, which the kernel does not exceed; it writes
        // how many they are to `size`.
        let asked = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        let count = usize::try_from(size).unwrap_or(MOST) / size_of::<libc::gid_t>();
        if asked == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::groups;

    #[test]
    fn peer_has_the_groups_of_its_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut expected: Vec<u32> =
            line.split_whitespace().map(|group| group.parse().unwrap()).collect();
        let mut found = groups(one.as_fd()).unwrap();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(groups(file.as_fd()).is_err(), "no socket");
    }
}
