//! The daemon's socket: for root, and for the members of a group, who are root on the node by it.
//! The socket's mode keeps others away, but a mode can be changed and a descriptor passed on. So each
//! connection is asked for its peer's credentials. Each call of somebody else is refused with words.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as Wakes, Poll};

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;
use tonic::{Request, Status};

/// Where the command line has the logs of its containers, which their users read there.
pub(crate) const LOGS: &str = "/var/log/cuddy/containers";

/// A group of the node whose members may do everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    name: String,
    /// None: there is no such group.
    id: Option<u32>,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Root, or a member of the group.
    Allowed,
    /// Another user, or nobody knows who.
    Refused(String),
}

/// A connection, and whose it is.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    peer: Peer,
}

impl Group {
    /// The group of this name.
    pub(crate) fn find(name: &str) -> Self {
        let table = std::fs::read_to_string("/etc/group").unwrap_or_default();
        Self { name: name.to_owned(), id: number(&table, name) }
    }

    /// Whether there is such a group.
    pub(crate) fn exists(&self) -> bool {
        self.id.is_some()
    }

    /// Gives a socket to the group; to root alone if there is no such group.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn give(&self, socket: &Path) -> io::Result<()> {
        let mode = match self.id {
            Some(id) => chown(socket, None, Some(id)).map(|()| 0o660)?,
            None => 0o600,
        };
        std::fs::set_permissions(socket, Permissions::from_mode(mode))
    }

    /// Lets the group read all that is in a directory from now on; nobody but root if there is no
    /// such group. What is made in it has its group (inode(7), the set-group-ID bit).
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn give_logs(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let Some(id) = self.id else { return Ok(()) };
        chown(directory, None, Some(id))?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o2750))
    }

    /// Who is at the other end.
    fn peer(&self, stream: &UnixStream) -> Peer {
        let known = stream.peer_cred().and_then(|peer| {
            let groups = syscalls::peer::groups(stream.as_fd())?;
            Ok((peer.uid(), peer.gid(), groups))
        });
        match known {
            Ok((uid, gid, groups)) => self.judge(uid, gid, &groups),
            Err(error) => Peer::Refused(format!("a caller that the kernel does not name: {error}")),
        }
    }

    /// What a user with these groups may do (pure).
    fn judge(&self, uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let is_member = self.id.is_some_and(|id| id == gid || groups.contains(&id));
        match uid == 0 || is_member {
            true => Peer::Allowed,
            false => {
                let name = &self.name;
                Peer::Refused(format!("user {uid} is neither root nor in the group {name:?}"))
            }
        }
    }

    /// The connections that come.
    pub(crate) fn connections(
        self,
        listener: UnixListener,
    ) -> impl Stream<Item = io::Result<Connection>> {
        UnixListenerStream::new(listener).map(move |accepted| {
            let stream = accepted?;
            let peer = self.peer(&stream);
            if let Peer::Refused(why) = &peer {
                log::warn!("refusing a caller: {why}");
            }
            Ok(Connection { stream, peer })
        })
    }
}

/// The number of a group (group(5)).
fn number(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Refuses each call of who may not make any.
///
/// # Errors
/// `PERMISSION_DENIED` with who it is.
pub(crate) fn check(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Allowed) => Ok(request),
        Some(Peer::Refused(why)) => Err(Status::permission_denied(why.clone())),
        None => Err(Status::permission_denied("nobody knows who calls")),
    }
}

/// Listens on `socket`. A dead daemon's socket is replaced.
///
/// # Errors
/// That somebody serves there, or the kernel's with what was being done.
pub(crate) async fn listen(socket: &Path, group: &Group) -> anyhow::Result<UnixListener> {
    let path = socket.display();
    if UnixStream::connect(socket).await.is_ok() {
        bail!("somebody serves on {path}: stop that, or name another `socket`");
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {path}"));
        }
        _ => {}
    }
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making {}", directory.display()))?;
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listening on {path}"))?;
    if !group.exists() {
        log::info!("no group {:?}: only root can use {path}", group.name);
    }
    group.give(socket).with_context(|| format!("protecting {path}"))?;
    Ok(listener)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        wakes: &mut Wakes<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(wakes, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        wakes: &mut Wakes<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(wakes, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, wakes: &mut Wakes<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(wakes)
    }

    fn poll_shutdown(self: Pin<&mut Self>, wakes: &mut Wakes<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(wakes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn root_and_members_of_the_group_are_served() {
        let group = Group { name: "cuddy".into(), id: Some(990) };
        assert_eq!(group.judge(0, 0, &[]), Peer::Allowed);
        assert_eq!(group.judge(1000, 990, &[]), Peer::Allowed, "its primary group");
        assert_eq!(group.judge(1000, 1000, &[4, 990]), Peer::Allowed);
        let why = "user 1000 is neither root nor in the group \"cuddy\"".to_owned();
        assert_eq!(group.judge(1000, 1000, &[4, 27]), Peer::Refused(why));
        let none = Group { name: "cuddy".into(), id: None };
        assert!(matches!(none.judge(1000, 990, &[990]), Peer::Refused(_)));
        assert_eq!(none.judge(0, 990, &[]), Peer::Allowed);
    }

    #[test]
    fn logs_that_are_made_later_are_the_groups_too() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs/containers");
        Group { name: "none".into(), id: None }.give_logs(&logs).unwrap();
        assert!(logs.is_dir());
        Group { name: "cuddy".into(), id: Some(990) }.give_logs(&logs).unwrap();
        std::fs::create_dir(logs.join("web")).unwrap();
        std::fs::write(logs.join("web/0.log"), "").unwrap();
        assert_eq!(std::fs::metadata(logs.join("web/0.log")).unwrap().gid(), 990);
    }

    #[test]
    fn number_is_that_of_the_whole_name() {
        let table = "cuddyx:x:1:\nroot:x:0:\ncuddy:x:990:anna\n";
        assert_eq!(number(table, "cuddy"), Some(990));
        assert_eq!(number(table, "cudd"), None);
        assert_eq!(number("cuddy\n", "cuddy"), None);
    }

    #[tokio::test]
    async fn connection_knows_its_peer_and_calls_are_checked_by_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let group = Group { name: "no such group".into(), id: None };
        let listener = listen(&socket, &group).await.unwrap();
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let busy = listen(&socket, &group).await.unwrap_err().to_string();
        assert!(busy.contains("somebody serves"), "{busy}");
        let mut connections = Box::pin(group.clone().connections(listener));
        // The question whether somebody serves was a connection, too.
        connections.next().await.unwrap().unwrap();
        let _client = UnixStream::connect(&socket).await.unwrap();
        let peer = connections.next().await.unwrap().unwrap().connect_info();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(peer == Peer::Allowed, uid == 0, "{peer:?}");
        let mut request = Request::new(());
        assert_eq!(check(Request::new(())).unwrap_err().code(), tonic::Code::PermissionDenied);
        request.extensions_mut().insert(Peer::Refused("user 5".into()));
        assert_eq!(check(request).unwrap_err().message(), "user 5");
    }
}
