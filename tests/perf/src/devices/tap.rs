//! A tap of the host with an address.
#![allow(unsafe_code, reason = "there are no safe calls to make a tap")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// Makes the tap `name`, which goes with its descriptor, with `address` and brings it up.
pub(super) fn new(name: &str, address: &str) -> Result<File> {
    let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let tap = tap.context("opening /dev/net/tun; is the tun module loaded?")?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags.try_into()? };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.try_into()?;
    }
    // SAFETY: the kernel reads and writes an ifreq, and there is one.
    let made = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, &raw mut request) };
    ensure!(made == 0, "making a tap: {}", io::Error::last_os_error());
    let header: libc::c_int = 12;
    // SAFETY: the kernel reads an int, and there is one.
    let set = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header) };
    ensure!(set == 0, "setting a tap's header: {}", io::Error::last_os_error());
    for arguments in [&["addr", "add", address, "dev", name][..], &["link", "set", name, "up"]] {
        let status = Command::new("ip").args(arguments).status().context("executing ip")?;
        ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    }
    Ok(tap)
}
