//! From a command line to a container's first output: `cuddy run` beside `ctr run` and
//! `docker run`, of a small image that is there. All daemons run; each has pulled the image.
//!
//! `ctr run` gives a container no network. `cuddy run` and `docker run` give it one; the latter is
//! measured without it as well.

mod docker;

use std::process::Command;

use anyhow::Result;
use harness::cri::Cuddyd;
use harness::ctr::BUSYBOX;
use serde::Serialize;

use crate::request::{self, first_output};
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;
use docker::Docker;

/// Options of `perf commands`.
#[derive(Debug, clap::Args)]
pub(crate) struct CommandsArgs {
    /// Measured runs of each, after one that warms up. An odd number.
    #[arg(long, default_value_t = 5, value_parser = samples::odd)]
    runs: u32,
}

/// Seconds of one command line.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    seconds: Samples,
}

/// What every container does.
const PRINTS: [&str; 2] = ["echo", "first"];

impl CommandsArgs {
    /// Measures and tells.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let mut rows = Vec::new();
        {
            let daemon = Cuddyd::quiet("");
            daemon.pull("busybox");
            let socket = daemon.path("cri.sock");
            let cuddy = |options: &[&str]| {
                let mut command = Command::new("cuddy");
                command.env("CUDDY_ADDRESS", &socket).args(["run", "--rm"]).args(options);
                command.arg(BUSYBOX).args(PRINTS);
                command
            };
            rows.push(self.row("cuddy run", || cuddy(&[]))?);
        }
        let times = request::measure(BUSYBOX, self.runs)?;
        rows.push(Row { what: "ctr run, cuddy", seconds: times.cuddy });
        rows.push(Row { what: "ctr run, runc", seconds: times.runc });
        if let Some(docker) = Docker::start()? {
            rows.push(self.row("docker run", || docker.run(&[], PRINTS))?);
            let alone = ["--network", "none"];
            rows.push(self.row("docker run, no network", || docker.run(&alone, PRINTS))?);
        }
        results.give("commands", &table(&rows), &rows)?;
        Ok(true)
    }

    fn row(&self, what: &'static str, command: impl Fn() -> Command) -> Result<Row> {
        eprintln!("perf: {what}");
        Ok(Row { what, seconds: Samples::take(self.runs, || first_output(&mut command()))? })
    }
}

fn table(rows: &[Row]) -> String {
    let ours = rows.first().map_or(f64::NAN, |row| row.seconds.median());
    let mut table = Table::new(["request to output, s", "median", "least", "most", "cuddy run /"]);
    for Row { what, seconds } in rows {
        let s = |seconds: f64| format!("{seconds:.3}");
        table.row([
            (*what).to_owned(),
            s(seconds.median()),
            s(seconds.least()),
            s(seconds.most()),
            format!("{:.2}", ours / seconds.median()),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_beside_the_first() {
        let row = |what, seconds| Row { what, seconds: vec![seconds].into() };
        let table = table(&[row("cuddy run", 0.5), row("docker run", 2.0)]);
        let line = table.lines().find(|line| line.starts_with("docker run")).unwrap();
        assert!(line.ends_with(" 0.25"), "{table}");
    }
}
