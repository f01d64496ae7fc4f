//! User namespaces that nobody lives in: id maps for [`crate::mount::map_ids`]. Only a process can
//! make one (user_namespaces(7)), so one is forked, which ends when the namespace is held by its
//! descriptor.
#![allow(unsafe_code, reason = "what a fork of a threaded process may do is in no safe library")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// Ids of a namespace and what they are outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// Number of ids.
    pub size: u32,
}

/// The form of user_namespaces(7): a line for each range.
pub fn map_file(ranges: impl IntoIterator<Item = IdRange>) -> String {
    let line = |range: IdRange| format!("{} {} {}\n", range.inside, range.outside, range.size);
    ranges.into_iter().map(line).collect()
}

/// Makes a user namespace with these maps, as [`map_file`] writes them. Threads of this process
/// may go on meanwhile.
///
/// # Errors
/// What the kernel answered: `EINVAL` for maps that overlap or are too long.
pub fn with_maps(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (made, tell_made) = pipe_with(PipeFlags::CLOEXEC)?;
    let (wait, end) = pipe_with(PipeFlags::CLOEXEC)?;
    let raw = [&tell_made, &wait, &end].map(AsRawFd::as_raw_fd);
    // SAFETY: the child calls nothing but `hold`, which only makes system calls: no lock that
    // another thread of this process may hold is ever wanted.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => hold(raw),
        1.. => {}
        _ => return Err(io::Error::last_os_error()),
    }
    drop((tell_made, wait));
    let namespace =
        rustix::io::read(&made, &mut [0; 1]).map_err(io::Error::from).and_then(|count| {
            if count == 0 {
                return Err(io::Error::other("no user namespace is allowed"));
            }
            std::fs::write(format!("/proc/{pid}/uid_map"), uids)?;
            std::fs::write(format!("/proc/{pid}/gid_map"), gids)?;
            File::open(format!("/proc/{pid}/ns/user"))
        });
    drop(end);
    let child = rustix::process::Pid::from_raw(pid);
    rustix::process::waitpid(child, rustix::process::WaitOptions::empty())?;
    namespace.map(OwnedFd::from)
}

/// The life of the child: it makes its namespace, says so, and stays until it is let go.
fn hold([tell_made, wait, end]: [RawFd; 3]) -> ! {
    let mut byte = 0_u8;
    // SAFETY: unshare(2) takes no pointers.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    // SAFETY: the descriptor is this process's copy, and nothing else of it uses it.
    unsafe { libc::close(end) };
    if unshared {
        // SAFETY: the pointer and the length are those of a live byte.
        unsafe { libc::write(tell_made, (&raw const byte).cast(), 1) };
        // SAFETY: as above, and the byte may be written.
        unsafe { libc::read(wait, (&raw mut byte).cast(), 1) };
    }
    // SAFETY: _exit(2) takes no pointers and runs nothing of this program any more.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines() {
        let range = |inside, outside, size| IdRange { inside, outside, size };
        let text = map_file([range(0, 100_000, 10), range(10, 90, 1)]);
        assert_eq!(text, "0 100000 10\n10 90 1\n");
    }

    #[test]
    fn a_namespace_is_made_unless_its_maps_are_refused() {
        let map = map_file([IdRange { inside: 0, outside: 100_000, size: 65_536 }]);
        let made = with_maps(&map, &map).unwrap();
        let own = std::fs::metadata("/proc/self/ns/user").unwrap();
        let other = rustix::fs::fstat(&made).unwrap();
        assert_ne!(std::os::unix::fs::MetadataExt::ino(&own), other.st_ino);
        assert!(with_maps("nonsense\n", &map).is_err());
    }
}
