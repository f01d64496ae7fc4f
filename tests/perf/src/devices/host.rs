//! The host's side of a measured machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Numbers;
use super::measures::Measure;
use super::{guest, tap};
use crate::process::Process;

/// Bytes of the disk and of the share's file.
const SIZE: u64 = 64 << 20;

/// Files that both machines use, in a directory that goes with this value.
pub(super) struct Host {
    directory: PathBuf,
    wanted: Vec<&'static Measure>,
}

impl Host {
    pub(super) fn new(wanted: &[&'static Measure]) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("perf-{}", std::process::id()));
        fs::create_dir_all(directory.join("share"))?;
        let host = Self { directory, wanted: wanted.to_vec() };
        guest::image(&host.directory.join("tree"), &host.root(), wanted)?;
        // Not sparse: a hole costs less to read than a file.
        for file in [host.disk(), host.share().join("data")] {
            fs::write(file, vec![1; usize::try_from(SIZE)?])?;
        }
        Ok(host)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root.erofs")
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    pub(super) fn share(&self) -> PathBuf {
        self.directory.join("share")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The numbers on a machine's console.
    pub(super) fn numbers(&self, console: &Path) -> Result<Numbers> {
        let text = fs::read(console).context("reading the console")?;
        guest::numbers(&String::from_utf8_lossy(&text), &self.wanted)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("removing {}: {error}", self.directory.display());
        }
    }
}

/// A tap with what answers on it.
pub(super) struct Network {
    pub(super) tap: File,
    /// They end with this value.
    _servers: Vec<Process>,
}

impl Network {
    pub(super) fn new() -> Result<Self> {
        let tap = tap::new("perf0", "10.9.0.1/24")?;
        let mut servers = Vec::new();
        for (program, arguments) in [
            ("iperf3", "-s -B 10.9.0.1"),
            (
                "fio",
                "--name=perf --thread --ioengine=net --protocol=tcp --port=5300 --listen --rw=read --bs=64 --size=96k --pingpong=1",
            ),
        ] {
            let server = Command::new(program)
                .args(arguments.split(' '))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("executing {program}; is it installed?"))?;
            servers.push(Process(server));
        }
        Ok(Self { tap, _servers: servers })
    }
}
