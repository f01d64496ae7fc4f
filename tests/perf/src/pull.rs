//! An image's way from a registry on this host to being ready for containers. Our own CRI server
//! pulls it, and containerd with overlayfs and with its EROFS snapshotter, all asked by the same call.
//!
//! Each pull has a server that was just started, and begins with the kernel's caches dropped. The
//! servers take turns. Their files lie where `TMPDIR` says, the registry's where `REGISTRY_STORE`
//! says: both are to be on a disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::cri::{Cri, Cuddyd, Daemon, api, bridge};
use serde::Serialize;

use crate::peers;
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;
use crate::usage::Server;

/// A pull may take so many times that of the quicker of containerd's.
const TARGET: f64 = 0.6;

/// No pull takes longer than this, under TCG either.
const LIMIT: Duration = Duration::from_secs(600);

/// Options of `perf pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Archive of the image; its file's name is the repository's.
    #[arg(long)]
    image: PathBuf,
    /// How often each pulls. An odd number.
    #[arg(long, default_value_t = 3, value_parser = samples::odd)]
    rounds: u32,
    /// Directory with the programs of containerd, 2.1 or later.
    #[arg(long)]
    containerd: Option<PathBuf>,
}

/// Who pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Puller {
    Cuddyd,
    /// containerd with a snapshotter.
    Containerd(&'static str),
}

const PULLERS: [Puller; 3] =
    [Puller::Cuddyd, Puller::Containerd("overlayfs"), Puller::Containerd("erofs")];

/// One pull.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pulled {
    /// Seconds until the server's answer.
    seconds: f64,
    /// Seconds until all of it is on the disk: the same and a `sync`.
    durable: f64,
    /// CPU of the server and of what it executes, in seconds.
    cpu: f64,
    /// The server's own peak of resident memory in MiB; what it executes is not in it.
    peak: f64,
}

/// All pulls of one.
#[derive(Debug, Serialize)]
struct Row {
    who: String,
    pulls: Vec<Pulled>,
}

impl PullArgs {
    /// Measures; whether the target is met.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let programs = self.containerd.clone().unwrap_or_else(peers::newest);
        let served = Command::new("lab-registry").arg(&self.image).status();
        ensure!(served.context("executing lab-registry")?.success(), "lab-registry failed");
        let name = self.image.file_stem().and_then(|name| name.to_str());
        let image = format!("cuddy.test/{}:latest", name.context("the image has no name")?);
        let mut rows: Vec<Row> = Vec::new();
        for round in 0..self.rounds {
            for (index, puller) in PULLERS.into_iter().enumerate() {
                let (who, pulled) = puller.pull(&image, &programs)?;
                eprintln!("perf: {who}, round {round}: {:.1} s", pulled.seconds);
                match rows.get_mut(index) {
                    Some(row) => row.pulls.push(pulled),
                    None => rows.push(Row { who, pulls: vec![pulled] }),
                }
            }
            results.give("pull", &table(&rows), &rows)?;
        }
        Ok(ratio(&rows) <= TARGET)
    }
}

impl Puller {
    /// Pulls with a new server.
    fn pull(self, image: &str, programs: &Path) -> Result<(String, Pulled)> {
        match self {
            Self::Cuddyd => {
                let daemon = Cuddyd::quiet("");
                Ok(("cuddyd".to_owned(), pull(&daemon.cri(), Server(daemon.pid()), image)?))
            }
            Self::Containerd(snapshotter) => {
                let more = configuration(snapshotter, harness::containerd::release(programs));
                let daemon = Daemon::with(programs, bridge, &more);
                let who = format!("containerd {}, {snapshotter}", daemon.version());
                Ok((who, pull(&daemon.cri(), Server(daemon.pid()), image)?))
            }
        }
    }
}

/// What makes containerd pull into a snapshotter, as its documentation has it, with as many layers
/// unpacked at a time as there may be, where the version can do that.
fn configuration(snapshotter: &str, release: (u32, u32)) -> String {
    let differ = if snapshotter == "erofs" { "erofs" } else { "walking" };
    let side_by_side = if release >= (2, 2) { "max_concurrent_unpacks = 8\n" } else { "" };
    format!(
        "[plugins.'io.containerd.cri.v1.images']\n\
         snapshotter = '{snapshotter}'\n\
         [plugins.'io.containerd.service.v1.diff-service']\n\
         default = ['{differ}', 'walking']\n\
         [plugins.'io.containerd.differ.v1.erofs']\n\
         mkfs_options = ['-T0', '--mkfs-time', '--sort=none']\n\
         [plugins.'io.containerd.transfer.v1.local']\n\
         {side_by_side}\
         [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\n\
         platform = 'linux/amd64'\n\
         snapshotter = '{snapshotter}'\n\
         differ = '{differ}'\n"
    )
}

fn pull(cri: &Cri, server: Server, name: &str) -> Result<Pulled> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the kernel's caches")?;
    server.forget_peak()?;
    let image = Some(api::ImageSpec { image: name.to_owned(), ..Default::default() });
    let request = api::PullImageRequest { image, ..Default::default() };
    let (before, begin) = (server.cpu()?, Instant::now());
    let mut images = cri.image_service();
    cri.wait_for(LIMIT, images.pull_image(request)).context("PullImage")?;
    let seconds = begin.elapsed().as_secs_f64();
    rustix::fs::sync();
    let durable = begin.elapsed().as_secs_f64();
    let (cpu, peak) = (server.cpu()? - before, server.peak()?);
    Ok(Pulled { seconds, durable, cpu: cpu.as_secs_f64(), peak })
}

impl Row {
    fn median(&self, of: fn(&Pulled) -> f64) -> f64 {
        Samples::from(self.pulls.iter().map(of).collect::<Vec<_>>()).median()
    }
}

/// The first one's time beside the least of the others'.
fn ratio(rows: &[Row]) -> f64 {
    let [ours, others @ ..] = rows else { return f64::INFINITY };
    let others = others.iter().map(|row| row.median(|pulled| pulled.seconds));
    ours.median(|pulled| pulled.seconds) / others.fold(f64::INFINITY, f64::min)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["", "pulled, s", "on the disk, s", "CPU, s", "peak, MiB"]);
    for row in rows {
        let of = |of| format!("{:.1}", row.median(of));
        table.row([
            row.who.clone(),
            of(|pulled| pulled.seconds),
            of(|pulled| pulled.durable),
            of(|pulled| pulled.cpu),
            of(|pulled| pulled.peak),
        ]);
    }
    let ratio = ratio(rows);
    let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
    format!(
        "{table}cuddyd / the quicker of containerd's  {ratio:.2}  at most {TARGET}: {verdict}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quicker_of_the_others_counts() {
        let row = |who: &str, seconds: [f64; 3]| Row {
            who: who.to_owned(),
            pulls: seconds
                .map(|seconds| Pulled { seconds, durable: seconds, cpu: 1.0, peak: 9.0 })
                .to_vec(),
        };
        let rows = [row("cuddyd", [9.0, 7.0, 8.0]), row("a", [30.0; 3]), row("b", [10.0; 3])];
        assert!(table(&rows).ends_with("0.80  at most 0.6: MISSED\n"), "{}", table(&rows));
    }
}
