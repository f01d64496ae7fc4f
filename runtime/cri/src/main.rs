//! `cuddyd`: runs a node's pods for a kubelet.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cri::{Settings, State, ask_for_a_template, notify, problems, run};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a node's pods, each in a machine of its own, for a kubelet or another client of the
/// container runtime interface.
#[derive(Debug, Parser)]
#[command(name = "cuddyd", version)]
struct Arguments {
    /// File with the settings.
    #[arg(long, value_name = "FILE", default_value = cri::SETTINGS)]
    config: PathBuf,
    /// Says which settings are in force and what is wrong with them on this node, and ends: with 1 if
    /// something is.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    // No thread of it allocates much.
    host::malloc::share_one_arena();
    if image::worker::is_asked() {
        return image::worker::run();
    }
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    match start(&arguments) {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&arguments.config)?;
    if arguments.check {
        return check(&settings);
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
            notify(State::Stopping);
        };
        let ready = || {
            notify(State::Ready);
            ask_for_a_template();
        };
        run(settings, ready, end).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(settings: &Settings) -> anyhow::Result<ExitCode> {
    print!("{}", toml::to_string(settings)?);
    let problems = problems(settings, &std::env::var_os("PATH").unwrap_or_default());
    for problem in &problems {
        eprintln!("wrong: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
