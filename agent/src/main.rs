//! cuddy-agent: the first process of the guest and, re-executed as `container-init`, the program
//! that becomes a container's process.

mod admission;
mod boot;
mod census;
mod cgroup;
mod clock;
mod container;
mod control;
mod cpus;
mod error;
mod forward;
mod init;
mod kernel_log;
mod launch;
mod network;
mod oci;
mod pod_pids;
mod pod_users;
mod power;
mod process;
mod reaper;
mod rpc;
mod sandbox;
mod server;
mod socket;
mod stdio;
mod storage;
mod sys;
mod warm;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

/// Most threads for work that blocks in the kernel; they are made when there is work, and end. One
/// for each disk that may hang in a flush, and as many again, so that nothing else waits for those.
const BLOCKING_THREADS: usize = 2 * agent_api::WINDOWS as usize;

/// How the program was called.
enum Mode {
    /// As the guest's first process.
    FirstProcess,
    /// `cuddy-agent --unix DIR`: serves on Unix sockets in a host prepared by somebody else
    /// (component tests).
    Unix(PathBuf),
}

fn mode() -> anyhow::Result<Mode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    match first.as_deref().and_then(|first| first.to_str()) {
        Some("--unix") => {
            Ok(Mode::Unix(PathBuf::from(arguments.next().context("--unix wants a directory")?)))
        }
        // The kernel hands unknown words of its command line to its first process.
        _ if std::process::id() == 1 => Ok(Mode::FirstProcess),
        _ => anyhow::bail!("this program is the first process of a Cuddy guest"),
    }
}

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == init::NAME) {
        return init::main();
    }
    if std::env::args_os().next().is_some_and(|name| name == pod_pids::NAME) {
        return pod_pids::main();
    }
    if std::env::args_os().next().is_some_and(|name| name == warm::NAME) {
        return warm::main();
    }
    match mode().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            eprintln!("cuddy-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: Mode) -> anyhow::Result<()> {
    match mode {
        Mode::FirstProcess => boot::mount().context("mount the guest's filesystems")?,
        Mode::Unix(_) => boot::prepare_test().context("prepare for tests")?,
    }
    runtime().context("start the runtime")?.block_on(serve(mode))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}

async fn serve(mode: Mode) -> anyhow::Result<()> {
    let reaper = Arc::new(reaper::Reaper::default());
    tokio::spawn(Arc::clone(&reaper).run().context("watch for children")?);
    let sandbox = Arc::new(sandbox::Sandbox::new(reaper));
    let listeners = match &mode {
        Mode::FirstProcess => server::Listeners::vsock(),
        Mode::Unix(directory) => server::Listeners::unix(directory),
    };
    server::serve(listeners.context("listen")?, sandbox).await.context("serve")?;
    if matches!(mode, Mode::FirstProcess) {
        // The host learns that it may connect while the rest is prepared; no request is read
        // before that is done, because this thread is the one that reads them.
        let announcement = server::announce_ready();
        boot::prepare().context("prepare the guest")?;
        if let Some(announcement) = announcement {
            announcement.answered().await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_goes_on_while_every_disk_hangs_in_a_flush() {
        let runtime = runtime().unwrap();
        let (answers, hung): (Vec<_>, Vec<_>) =
            (0..agent_api::WINDOWS).map(|_| mpsc::channel::<()>()).unzip();
        for disk in hung {
            runtime.spawn_blocking(move || disk.recv());
        }
        let done = runtime.block_on(async {
            let work = tokio::task::spawn_blocking(|| true);
            tokio::time::timeout(Duration::from_secs(30), work).await
        });
        drop(answers);
        assert!(done.unwrap().unwrap());
    }
}
