//! Request to first output: from executing a command line to the first byte that its container
//! prints. `ctr run` runs the same image with the same snapshotter under Cuddy and runc.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use harness::ctr::{RUNTIME, ctr};

use crate::samples::Samples;

const RUNC: &str = "io.containerd.runc.v2";

/// Seconds from request to first output.
#[derive(Debug)]
pub(crate) struct RequestTimes {
    /// In a microVM.
    pub(crate) cuddy: Samples,
    /// As a process of the host.
    pub(crate) runc: Samples,
}

/// Runs the image `runs` times with each runtime.
pub(crate) fn measure(image: &str, runs: u32) -> Result<RequestTimes> {
    // Starts containerd where it has to be.
    ctr(&["version"]).ok();
    Ok(RequestTimes {
        cuddy: Samples::take(runs, || first_output(&mut ctr_run(RUNTIME, image)))?,
        runc: Samples::take(runs, || first_output(&mut ctr_run(RUNC, image)))?,
    })
}

fn ctr_run(runtime: &str, image: &str) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.args(["run", "--rm", "--runtime", runtime, image, "perf-request", "echo", "first"]);
    ctr
}

/// Seconds until the command prints; it has to end well.
pub(crate) fn first_output(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("executing {command:?}"))?;
    let mut output = child.stdout.take().context("it has no standard output")?;
    let mut first = [0; 1];
    let read = output.read(&mut first);
    let elapsed = start.elapsed().as_secs_f64();
    let mut rest = String::new();
    output.read_to_string(&mut rest).context("reading a container's output")?;
    let status = child.wait().context("waiting for a command line")?;
    if read.context("reading a container's output")? != 1 || !status.success() {
        bail!("{command:?} ended with {status} and printed {rest:?}");
    }
    Ok(elapsed)
}
