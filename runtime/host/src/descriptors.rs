//! Room for descriptors. The kernel's table of them grows when it is full. In a process with threads
//! that waits until all of the kernel has looked away from the old one (`expand_fdtable`), some 10 ms.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// Has the kernel make room for `count` descriptors now. Each takes 8 bytes.
///
/// # Errors
/// The process may not have so many. All is only slower then.
pub fn make_room(count: RawFd) -> io::Result<()> {
    let any = File::open("/dev/null")?;
    rustix::io::fcntl_dupfd_cloexec(&any, count - 1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_has_room_afterwards() {
        super::make_room(200).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u32>().unwrap() >= 200, "{size}");
        let fd = std::fs::File::open("/dev/null").unwrap();
        assert!(std::os::fd::AsRawFd::as_raw_fd(&fd) < 199);
    }
}
