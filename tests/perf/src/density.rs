//! Many pods on one host: they are created, probed and removed through CRI, what each takes is
//! told, and nothing may be left of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::cri::{Container, ContainerSpec, Cri, Daemon, Pod, PodSpec};
use serde::Serialize;

use crate::memory::{self, Memory};

const SANDBOXES: &str = "/run/cuddy/k8s.io";

/// Options of `perf density`.
#[derive(Debug, clap::Args)]
pub(crate) struct DensityArgs {
    /// How many pods.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: u32,
    /// Directory for `density.txt` and `density.json`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// What one pod takes, in KiB.
#[derive(Debug, Clone, Serialize)]
struct Taken {
    shim: u64,
    vmm: u64,
    guest: u64,
}

impl Taken {
    fn sum(&self) -> u64 {
        self.shim + self.vmm + self.guest
    }
}

/// The numbers of a run.
#[derive(Debug, Serialize)]
struct Density {
    pods: Vec<Taken>,
    /// How much less memory the host has available, with everything, in KiB a pod.
    host_kib_a_pod: u64,
    create_seconds: f64,
    probe_seconds: f64,
    remove_seconds: f64,
}

impl DensityArgs {
    /// Runs the pods, prints the table, and writes the files.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let daemon = Daemon::new(&self.containerd);
        let cri = daemon.cri();
        // The first pod makes the bridge, and fills caches.
        let first = run(&cri);
        cri.remove_pod(&first.0);
        daemon.settled();
        let free = available_kib()?;
        let begin = Instant::now();
        let mut pods = Vec::new();
        for n in 0..self.pods {
            pods.push(run(&cri));
            eprintln!("perf: {} pods after {} s", n + 1, begin.elapsed().as_secs());
        }
        let create_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        for (_, container) in &pods {
            let answer = cri.exec_sync(container, &["echo", "there"]).ok();
            ensure!(answer == "there\n", "a pod answered {answer:?}");
        }
        let probe_seconds = begin.elapsed().as_secs_f64();
        let taken: Result<Vec<_>> = pods.iter().map(|(pod, _)| taken(pod)).collect();
        let host_kib_a_pod = free.saturating_sub(available_kib()?) / u64::from(self.pods);
        let begin = Instant::now();
        pods.iter().for_each(|(pod, _)| cri.remove_pod(pod));
        let remove_seconds = begin.elapsed().as_secs_f64();
        daemon.settled();
        let density =
            Density { pods: taken?, host_kib_a_pod, create_seconds, probe_seconds, remove_seconds };
        self.tell(&density)?;
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, density: &Density) -> Result<()> {
        let table = table(density);
        print!("{table}");
        let Some(out) = &self.out else { return Ok(()) };
        let json = serde_json::to_string_pretty(density)? + "\n";
        for (name, text) in [("density.txt", table), ("density.json", json)] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// A pod with a sleeping container.
fn run(cri: &Cri) -> (Pod, Container) {
    let pod = cri.run_pod(PodSpec::new("density"));
    let container = cri.start_new(&pod, ContainerSpec::new("main", &["sleep", "100000"]));
    (pod, container)
}

fn taken(pod: &Pod) -> Result<Taken> {
    let Memory { shim_kib, vmm_kib, guest_kib } =
        memory::of_sandbox(&Path::new(SANDBOXES).join(&pod.id))?;
    Ok(Taken { shim: shim_kib, vmm: vmm_kib, guest: guest_kib })
}

/// What the host could still give without swapping (proc(5), `MemAvailable`).
fn available_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("no MemAvailable in /proc/meminfo")
}

/// Least, middle and most of a list.
fn spread(mut values: Vec<u64>) -> [u64; 3] {
    values.sort_unstable();
    let pick = |index: usize| values.get(index).copied().unwrap_or_default();
    [pick(0), pick(values.len() / 2), pick(values.len().saturating_sub(1))]
}

/// MiB with one decimal.
fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}

/// What is told of a pod, and how it is found.
type Column = (&'static str, fn(&Taken) -> u64);

fn table(density: &Density) -> String {
    let Density { pods, host_kib_a_pod, create_seconds, probe_seconds, remove_seconds } = density;
    let mut lines = vec![
        format!(
            "{} pods: created in {create_seconds:.0} s, probed in {probe_seconds:.0} s, removed \
             in {remove_seconds:.0} s, nothing left",
            pods.len()
        ),
        format!("{:<34} {:>8} {:>8} {:>8}", "MiB a pod", "least", "median", "most"),
    ];
    let columns: [Column; 4] = [
        ("shim, PSS", |pod| pod.shim),
        ("VMM without guest memory, PSS", |pod| pod.vmm),
        ("guest memory touched", |pod| pod.guest),
        ("together", Taken::sum),
    ];
    for (what, value) in columns {
        let [least, median, most] = spread(pods.iter().map(value).collect()).map(mib);
        lines.push(format!("{what:<34} {least:>8} {median:>8} {most:>8}"));
    }
    let whole = "less available on the host, a pod";
    lines.push(format!("{whole:<34} {:>8} {:>8}", "", mib(*host_kib_a_pod)));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_least_median_and_most() {
        let pods = [3, 1, 2].map(|n| Taken { shim: n * 1024, vmm: 512, guest: 40 * 1024 });
        let density = Density {
            pods: pods.to_vec(),
            host_kib_a_pod: 50 * 1024 + 512,
            create_seconds: 10.0,
            probe_seconds: 1.0,
            remove_seconds: 2.0,
        };
        let table = table(&density);
        let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
        let words: Vec<_> = line("shim").split_whitespace().collect();
        assert_eq!(words[2..], ["1.0", "2.0", "3.0"]);
        assert!(line("together").ends_with("43.5"), "{table}");
        assert!(line("less available").ends_with("50.5"), "{table}");
    }
}
