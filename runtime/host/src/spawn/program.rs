//! Starting a program in its cgroup. Moving a process into one waits until all of the host's kernel has
//! looked away from it, some 10 ms. A process that is born there does not wait. The standard library
//! can't ask for that.

#![allow(unsafe_code, reason = "what a new process does until it is another program")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;

use rustix::process::{WaitOptions, waitpid};
use syscalls::clone::{Forked, fork_into};

use super::{FIRST, ignore_ends, place};

/// A program without arguments and environment, which does not end by the signals that go to all
/// processes of a host that shuts down. Its input and output are `/dev/null`.
#[derive(Debug)]
pub struct Program {
    path: CString,
    /// What it has as its descriptors from 0 on, each with a number that none of them gets.
    sources: Vec<OwnedFd>,
}

/// A program that could not be started.
#[derive(Debug)]
pub enum StartError {
    /// There is no process: the host has none left, or can't make one in that cgroup.
    Process(io::Error),
    /// The process could not become the program.
    Program(io::Error),
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Process(error) | StartError::Program(error) => error,
        }
    }
}

impl Program {
    /// The program at `path`, with `stderr` and with `fds` as its descriptors 3, 4, …
    ///
    /// # Errors
    /// No descriptor is left, or no path has such a name.
    pub fn new(path: &Path, stderr: &OwnedFd, fds: &[OwnedFd]) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let null = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/null")?);
        let end = end(fds.len())?;
        let all = [&null, &null, stderr].into_iter().chain(fds);
        let sources = all.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, end));
        Ok(Self { path, sources: sources.collect::<Result<_, _>>()? })
    }

    /// Starts it, in a session of its own, and in the cgroup (of version 2) whose directory is
    /// given. Returns once it runs.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, StartError> {
        let (mut told, tell) = self.pipe().map_err(StartError::Process)?;
        let sources: Vec<RawFd> = self.sources.iter().map(AsRawFd::as_raw_fd).collect();
        let child = Child { program: self, sources: &sources, tell: tell.as_raw_fd() };
        let born = child.start(cgroup).map_err(StartError::Process)?;
        drop(tell);
        let mut errno = [0; size_of::<i32>()];
        match told.read_exact(&mut errno) {
            // The end that it had was closed when it became the program.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(born),
            read => {
                let errno = read.map(|()| io::Error::from_raw_os_error(i32::from_ne_bytes(errno)));
                let _ended = waitpid(Some(born.pid), WaitOptions::empty());
                Err(StartError::Program(errno.unwrap_or_else(|error| error)))
            }
        }
    }

    /// What the process says why it did not become the program: where to read that, and its own end,
    /// whose number is none that it gives away.
    fn pipe(&self) -> io::Result<(File, OwnedFd)> {
        let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let end = end(self.sources.len())?;
        Ok((told.into(), rustix::io::fcntl_dupfd_cloexec(&tell, end)?))
    }
}

/// First number behind those of so many descriptors and the standard streams.
fn end(fds: usize) -> io::Result<RawFd> {
    Ok(FIRST + RawFd::try_from(fds).map_err(io::Error::other)?)
}

/// What the new process needs, all of it made before: it may allocate nothing.
struct Child<'a> {
    program: &'a Program,
    sources: &'a [RawFd],
    tell: RawFd,
}

impl Child<'_> {
    fn start(&self, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
        // SAFETY: the copy makes only async-signal-safe system calls and allocates nothing until it is
        // another program.
        match unsafe { fork_into(cgroup) }? {
            Some(copy) => Ok(copy),
            None => self.become_program(),
        }
    }

    /// In the new process.
    fn become_program(&self) -> ! {
        let error = self.execute();
        let errno = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
        // SAFETY: the bytes live; a number that is no descriptor does no harm.
        unsafe { libc::write(self.tell, errno.as_ptr().cast(), errno.len()) };
        // SAFETY: it takes a number. The process ends without what others do at their end.
        unsafe { libc::_exit(127) }
    }

    /// Returns only if it fails.
    fn execute(&self) -> io::Error {
        let placed = place(self.sources, 0).and_then(|()| ignore_ends()).and_then(|()| clear());
        if let Err(error) = placed {
            return error;
        }
        let path = self.program.path.as_ptr();
        let (arguments, environment) = ([path, null()], [null()]);
        // SAFETY: a string and two lists of such, which end as they must and live.
        unsafe { libc::execve(path, arguments.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Gives signals the meaning and the mask that programs expect: the runtime of this one changes that
/// of SIGPIPE.
fn clear() -> io::Result<()> {
    // SAFETY: a set of signals is numbers, of which zeroes are none.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: async-signal-safe; the default has no handler that could be unsound.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: async-signal-safe, and the set lives.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) }
    {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use rustix::process::Signal;

    use super::super::{ChildEnd, Watched};
    use super::*;

    /// It writes to its output until it is ended.
    const YES: &str = "/usr/bin/yes";

    fn started(fds: &[OwnedFd]) -> Watched {
        let stderr = OwnedFd::from(File::open("/dev/null").unwrap());
        let program = Program::new(Path::new(YES), &stderr, fds).unwrap();
        Watched::started(program.start(None).unwrap()).unwrap()
    }

    fn of(process: &Watched, what: &str) -> PathBuf {
        format!("/proc/{}/{what}", process.pid()).into()
    }

    #[tokio::test]
    async fn program_has_its_descriptors_and_no_others() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // Not close-on-exec, as if inherited: must not reach the program.
        let leak = rustix::io::dup(&writer).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let process = started(&[reader, writer]);
        let open = std::fs::read_dir(of(&process, "fd")).unwrap().flatten();
        let mut open: Vec<_> =
            open.map(|fd| (fd.file_name(), std::fs::read_link(fd.path()).unwrap())).collect();
        open.sort();
        let numbers: Vec<_> = open.iter().map(|(number, _)| number.to_str().unwrap()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
        assert!(open[..3].iter().all(|(_, file)| file == Path::new("/dev/null")), "{open:?}");
        assert!(open[3..].iter().all(|(_, file)| file.to_string_lossy().starts_with("pipe:")));
        assert_eq!(std::fs::read(of(&process, "environ")).unwrap(), b"");
        assert_eq!(
            std::fs::read(of(&process, "cmdline")).unwrap(),
            [YES.as_bytes(), b"\0"].concat()
        );
        process.kill();
        assert_eq!(process.wait().await.unwrap(), ChildEnd::Signal(9));
    }

    #[tokio::test]
    async fn program_survives_a_broadcast_and_has_the_usual_signals() {
        let process = started(&[]);
        for signal in [Signal::TERM, Signal::INT] {
            rustix::process::kill_process(process.pid, signal).unwrap();
        }
        let status = std::fs::read_to_string(of(&process, "status")).unwrap();
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!((set("SigPnd:"), set("ShdPnd:"), set("SigBlk:")), (0, 0, 0), "{status}");
        assert_eq!(set("SigIgn:") & 0x5002, 0x4002, "{status}");
        process.kill();
        assert_eq!(process.wait().await.unwrap(), ChildEnd::Signal(9));
    }

    #[test]
    fn program_that_is_none_is_told_and_leaves_no_process() {
        let stderr = OwnedFd::from(File::open("/dev/null").unwrap());
        for (path, kind) in [
            ("/nonexistent", io::ErrorKind::NotFound),
            ("/etc/passwd", io::ErrorKind::PermissionDenied),
        ] {
            let program = Program::new(Path::new(path), &stderr, &[]).unwrap();
            assert_eq!(io::Error::from(program.start(None).unwrap_err()).kind(), kind, "{path}");
        }
        let children =
            format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero());
        assert_eq!(std::fs::read_to_string(children).unwrap(), "");
    }

    /// A directory that is no cgroup takes no process.
    #[test]
    fn what_is_no_cgroup_is_told_apart_from_what_is_no_program() {
        let stderr = OwnedFd::from(File::open("/dev/null").unwrap());
        let program = Program::new(Path::new(YES), &stderr, &[]).unwrap();
        let directory = File::open("/").unwrap();
        let error = program.start(Some(directory.as_fd())).unwrap_err();
        assert!(matches!(error, StartError::Process(_)), "{error:?}");
    }
}
