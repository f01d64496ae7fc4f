//! Request to first output: from executing `ctr run` to the first byte that the container prints.
//! Cuddy and runc run the same image with the same snapshotter.

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
        cuddy: Samples::take(runs, || first_output(RUNTIME, image))?,
        runc: Samples::take(runs, || first_output(RUNC, image))?,
    })
}

fn first_output(runtime: &str, image: &str) -> Result<f64> {
    let start = Instant::now();
    let mut ctr = Command::new("ctr")
        .args(["run", "--rm", "--runtime", runtime, image, "perf-request", "echo", "first"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("executing ctr")?;
    let mut output = ctr.stdout.take().context("ctr has no standard output")?;
    let mut first = [0; 1];
    let read = output.read(&mut first);
    let elapsed = start.elapsed().as_secs_f64();
    let mut rest = String::new();
    output.read_to_string(&mut rest).context("reading the container's output")?;
    let status = ctr.wait().context("waiting for ctr")?;
    if read.context("reading the container's output")? != 1 || !status.success() {
        bail!("ctr run with {runtime} ended with {status} and printed {rest:?}");
    }
    Ok(elapsed)
}
