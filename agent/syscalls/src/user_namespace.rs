//! User namespaces that nobody lives in: id maps for [`crate::mount::map_ids`]. Only a process can
//! make one (user_namespaces(7)), so one is forked, which ends when the namespace is held by its
//! descriptor.
#![allow(unsafe_code, reason = "what a fork of a threaded process may do is in no safe library")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

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
/// may go on meanwhile, and make others.
///
/// # Errors
/// What the kernel answered: `EINVAL` for maps that overlap or are too long.
pub fn with_maps(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    let end = theirs.as_raw_fd();
    // SAFETY: the child calls nothing but `hold`, which only makes system calls: no lock that
    // another thread of this process may hold is ever wanted.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => hold(end),
        1.. => {}
        _ => return Err(io::Error::last_os_error()),
    }
    drop(theirs);
    let namespace = adopt(pid, ours, uids, gids);
    // Not by closing the channel: a copy of our end may be in any child that another thread forks.
    let child = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    rustix::process::kill_process(child, Signal::KILL)?;
    rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    namespace.map(OwnedFd::from)
}

/// Waits until the child has its namespace, writes the maps and opens it.
fn adopt(pid: i32, mut ours: UnixStream, uids: &str, gids: &str) -> io::Result<File> {
    if ours.read(&mut [0; 1])? == 0 {
        return Err(io::Error::other("no user namespace is allowed"));
    }
    std::fs::write(format!("/proc/{pid}/uid_map"), uids)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), gids)?;
    File::open(format!("/proc/{pid}/ns/user"))
}

/// The life of the child: it makes its namespace, says so, and stays until it is killed or its
/// parent has ended.
fn hold(end: RawFd) -> ! {
    let mut byte = 0_u8;
    // The child never executes a program: without this it would keep what other threads have open,
    // such as the channels of their own children, which wait for the end of those.
    let number = end.cast_unsigned();
    if let Some(below) = number.checked_sub(1) {
        // SAFETY: close_range(2) takes no pointers, and nothing of this process uses what it closes.
        unsafe { libc::close_range(0, below, 0) };
    }
    // SAFETY: as above; the number of a descriptor is far below the largest one.
    unsafe { libc::close_range(number + 1, u32::MAX, 0) };
    // SAFETY: unshare(2) takes no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0 {
        // SAFETY: the pointer and the length are those of a live byte.
        unsafe { libc::write(end, (&raw const byte).cast(), 1) };
        // SAFETY: as above, and the byte may be written.
        unsafe { libc::read(end, (&raw mut byte).cast(), 1) };
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

    /// The children of calls that run at once must not keep each other from ending.
    #[test]
    fn many_namespaces_are_made_at_once() {
        let (done, ended) = std::sync::mpsc::channel();
        for _ in 0..8 {
            let done = done.clone();
            std::thread::spawn(move || {
                let map = map_file([IdRange { inside: 0, outside: 100_000, size: 65_536 }]);
                let all = (0..50).try_for_each(|_| with_maps(&map, &map).map(drop));
                done.send(all.map_err(|error| error.to_string())).unwrap();
            });
        }
        for _ in 0..8 {
            let all = ended.recv_timeout(std::time::Duration::from_mins(2));
            all.expect("calls wait for each other").unwrap();
        }
    }
}
