//! A tap of the host with an address.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Makes the tap `name`, which goes with its descriptor, with `address` and brings it up.
pub(super) fn new(name: &str, address: &str) -> Result<File> {
    let tap =
        syscalls::tap::queue(name, false).context("making a tap; is the tun module loaded?")?;
    for arguments in [&["addr", "add", address, "dev", name][..], &["link", "set", name, "up"]] {
        let status = Command::new("ip").args(arguments).status().context("executing ip")?;
        ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    }
    Ok(tap)
}
