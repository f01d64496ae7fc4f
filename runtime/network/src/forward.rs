//! Connections to the namespace's loopback, whose other side is the guest's. A program that
//! forwards ports (containerd) enters the pod's network namespace and dials `localhost`. There the
//! runtime listens at one address of each family, and [`crate::bpf`] brings it connections to all
//! ports. The connection's own address tells which port was meant.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt::set_ip_freebind;
use rustix::net::{SocketAddrAny, SocketFlags, SocketType, listen, socket_with};
use tokio::net::{TcpListener, TcpStream};

use crate::netns::Netns;
use crate::{Error, bpf};

/// What is listened on for one family.
pub type Listener = TcpListener;

/// Connections that wait to be accepted, as many as std's listeners have.
const BACKLOG: i32 = 128;

/// The listeners of a namespace.
#[derive(Debug)]
pub struct Listeners {
    v4: Option<Listener>,
    v6: Option<Listener>,
    _steering: OwnedFd,
}

/// Listens at any port, also while the interface of the address is down.
fn bind(address: impl Into<SocketAddr>) -> io::Result<std::net::TcpListener> {
    let address = SocketAddrAny::from(address.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(address.address_family(), SocketType::STREAM, flags, None)?;
    // Linux takes IPv4's option for a socket of IPv6, too: it is one flag of both.
    set_ip_freebind(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

impl Listeners {
    pub(crate) fn new(netns: &Netns) -> Result<Self, Error> {
        let doing = "listening on the pod's loopback";
        let bind = || {
            let v4 = bind((Ipv4Addr::LOCALHOST, 0));
            // A namespace may have only one family.
            match (v4, bind((Ipv6Addr::LOCALHOST, 0))) {
                (Err(error), Err(_)) => Err(error),
                (v4, v6) => Ok((v4.ok(), v6.ok())),
            }
        };
        let failed = |error| Error::io(doing, error);
        let (v4, v6) = netns.enter(doing, bind)?;
        let steering =
            bpf::steer(netns.as_fd(), v4.as_ref().map(AsFd::as_fd), v6.as_ref().map(AsFd::as_fd))
                .map_err(|error| Error::io("steering connections to the pod's loopback", error))?;
        let watched = |listener: Option<std::net::TcpListener>| {
            listener.map(TcpListener::from_std).transpose().map_err(failed)
        };
        Ok(Self { v4: watched(v4)?, v6: watched(v6)?, _steering: steering })
    }

    /// The next connection, and the address of this side that was dialled.
    ///
    /// # Errors
    /// What the kernel answered; the next one may succeed.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = tokio::select! {
            accepted = accept(self.v4.as_ref()) => accepted?,
            accepted = accept(self.v6.as_ref()) => accepted?,
        };
        let address = stream.local_addr()?;
        Ok((stream, address))
    }
}

async fn accept(listener: Option<&Listener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}
