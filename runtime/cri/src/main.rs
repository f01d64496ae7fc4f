//! `cuddyd`: runs a node's pods for a kubelet.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cri::{Settings, run};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a node's pods, each in a machine of its own, for a kubelet or another client of the
/// container runtime interface.
#[derive(Debug, Parser)]
#[command(name = "cuddyd", version)]
struct Arguments {
    /// File with the settings.
    #[arg(long, value_name = "FILE", default_value = cri::SETTINGS)]
    config: PathBuf,
    /// Reads the settings, says what is in force, and ends.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.config)?;
    if arguments.check {
        print!("{}", toml::to_string(&settings)?);
        return Ok(());
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().context("starting threads")?;
    runtime.block_on(async {
        let mut asked = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let end = async move {
            tokio::select! {
                _ = asked.recv() => {}
                _ = interrupted.recv() => {}
            }
            log::info!("ending; pods go on");
        };
        run(settings, || {}, end).await
    })
}
