//! A network namespace by its path. Only threads are in a namespace, so a short-lived thread does
//! whatever has to happen in this one. Sockets and taps made there can be used from anywhere.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;

const OWN: &str = "/proc/self/ns/net";

/// How long a connection to a port of the pod may take.
const DIAL: Duration = Duration::from_secs(5);

/// An open network namespace, which exists as long as this value.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
    inode: u64,
}

impl Netns {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`Error::Gone`] if there is none, [`Error::Own`] for that of this process, [`Error::Io`]
    /// otherwise.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(&format!("opening {}", path.display()), error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Gone(path.to_owned()));
            }
            file => file.map_err(failed)?,
        };
        let (this, own) =
            (file.metadata().map_err(failed)?, std::fs::metadata(OWN).map_err(failed)?);
        if (this.dev(), this.ino()) == (own.dev(), own.ino()) {
            return Err(Error::Own(path.to_owned()));
        }
        if this.dev() != own.dev() {
            return Err(Error::Gone(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), file, inode: this.ino() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open namespace, for the kernel.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What tells it from other namespaces that exist at the same time.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Connects to a port of the namespace's loopback, by IPv4 or else by IPv6. The stream does not
    /// block.
    ///
    /// # Errors
    /// [`Error::Io`] when nobody listens, or nobody answers for 5 s.
    pub fn dial(&self, port: u16) -> Result<TcpStream, Error> {
        let dial = || {
            let dial =
                |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), DIAL);
            let stream = dial(Ipv4Addr::LOCALHOST.into())
                .or_else(|error| dial(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        self.enter(&format!("connecting to port {port} of the pod"), dial)
    }

    /// Does something in the namespace, on a thread that ends with it.
    ///
    /// # Errors
    /// [`Error::Io`] with its failure.
    pub fn enter<T: Send>(
        &self,
        doing: &str,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, Error> {
        let enter = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(enter).join());
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        done.map_err(|error| Error::io(doing, error))
    }
}
