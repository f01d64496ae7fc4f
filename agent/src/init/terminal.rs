//! The terminal of a process: a pty of the container's own devpts.

use std::os::fd::OwnedFd;

use oci_spec::runtime::User;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::failure::Context;
use crate::control::Failure;
use crate::oci::process::ConsoleSize;

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Opens a new pty: the side of the agent and the side of the workload.
///
/// # Errors
/// The container has no devpts at /dev/pts, or something else there.
pub(super) fn open(size: Option<ConsoleSize>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
        .context("open /dev/pts/ptmx for the terminal")?;
    // A running container can have put anything there before an exec.
    let found = rustix::fs::fstatfs(&controller).context("look at /dev/pts")?.f_type;
    if u64::try_from(found) != Ok(DEVPTS_MAGIC) {
        return Err(Failure::program("/dev/pts of the container is not devpts"));
    }
    rustix::pty::unlockpt(&controller).context("unlock the terminal")?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal =
        rustix::pty::ioctl_tiocgptpeer(&controller, peer).context("open the terminal")?;
    if let Some(size) = size.filter(|size| size.width != 0 || size.height != 0) {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&controller, size).context("set consoleSize")?;
    }
    Ok((controller, terminal))
}

/// Makes the pty the session's terminal and the standard streams, and with `console` also
/// /dev/console.
pub(super) fn attach(terminal: OwnedFd, user: &User, console: bool) -> Result<(), Failure> {
    let owner = Some(rustix::fs::Uid::from_raw(user.uid()));
    // The group stays that of the devpts mount (tty).
    rustix::fs::fchown(&terminal, owner, None).context("give the terminal to the user")?;
    if console {
        bind_console(&terminal)?;
    }
    rustix::process::ioctl_tiocsctty(&terminal).context("take the terminal")?;
    rustix::stdio::dup2_stdin(&terminal).context("set standard input")?;
    rustix::stdio::dup2_stdout(&terminal).context("set standard output")?;
    rustix::stdio::dup2_stderr(&terminal).context("set standard error")
}

fn bind_console(terminal: &OwnedFd) -> Result<(), Failure> {
    let name = rustix::termios::ttyname(terminal, Vec::new()).context("name the terminal")?;
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open("/dev/console", flags, mode).context("create /dev/console")?;
    mount(name, "/dev/console", "", MountFlags::BIND, None)
        .context("bind the terminal to /dev/console")
}
