//! `cuddy`, the command line of the runtime. One verb per file under `commands/`.

mod bars;
mod check;
mod client;
mod commands;
mod console;
mod ending;
mod exit;
mod human;
mod log_file;
mod log_record;
mod options;
mod output;
mod plan;
mod private;
mod probe;
mod restarts;
mod session;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Runs every pod in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "cuddy", version, arg_required_else_help = true)]
struct Cli {
    /// The daemon's socket [default: /run/cuddy/cri.sock, where one is started if root asks].
    #[arg(long, global = true, value_name = "SOCKET", env = "CUDDY_ADDRESS")]
    address: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Attach(commands::attach::AttachArgs),
    Check(commands::check::CheckArgs),
    Completions(commands::completions::CompletionsArgs),
    Cp(commands::cp::CpArgs),
    Exec(commands::exec::ExecArgs),
    Gc(commands::gc::GcArgs),
    Images(commands::images::ImagesArgs),
    Inspect(commands::inspect::InspectArgs),
    Kill(commands::kill::KillArgs),
    Load(commands::load::LoadArgs),
    Logs(commands::logs::LogsArgs),
    #[command(hide = true)]
    Man(commands::man::ManArgs),
    Pods(commands::pods::PodsArgs),
    Ps(commands::ps::PsArgs),
    Pull(commands::pull::PullArgs),
    Rm(commands::rm::RmArgs),
    Rmi(commands::rmi::RmiArgs),
    Run(Box<commands::run::RunArgs>),
    Save(commands::save::SaveArgs),
    Start(commands::start::StartArgs),
    Stats(commands::stats::StatsArgs),
    Stop(commands::stop::StopArgs),
    Template(commands::template::TemplateArgs),
    Top(commands::top::TopArgs),
}

/// Exit status for words that are no command.
const WRONG: u8 = 2;

/// Verbs whose exit status scripts take for that of a process in a container.
const PROCESSES: [&str; 3] = ["attach", "exec", "run"];

/// Says why `words` are no command; the exit status.
fn wrong(error: &clap::Error, mut words: impl Iterator<Item = OsString>) -> ExitCode {
    // Nobody reads it, if that fails.
    let _gone = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let all = Cli::command();
    let verb = words.find_map(|word| Some(all.find_subcommand(&word)?.get_name().to_owned()));
    match verb {
        Some(verb) if PROCESSES.contains(&&*verb) => exit::FAILED.into(),
        _ => WRONG.into(),
    }
}

fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|words| {
        let is_process = words.subcommand_name().is_some_and(|verb| PROCESSES.contains(&verb));
        Ok((is_process, Cli::from_arg_matches(&words)?))
    });
    let (is_process, Cli { address, verb }) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return wrong(&error, std::env::args_os().skip(1)),
    };
    let result = match verb {
        Verb::Check(args) => args.run(),
        Verb::Completions(args) => args.run(Cli::command()),
        Verb::Man(args) => args.run(Cli::command()),
        Verb::Template(args) => args.run(),
        verb => with_daemon(address, verb),
    };
    result.unwrap_or_else(|error| {
        let text = format!("{error:#}");
        eprintln!("cuddy: {text}");
        if is_process { exit::of_failure(&text).into() } else { ExitCode::FAILURE }
    })
}

fn with_daemon(address: Option<PathBuf>, verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = private::connect(address.as_deref()).await?;
        speak(&client, verb).await
    })
}

async fn speak(client: &client::Client, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Attach(args) => args.run(client).await,
        Verb::Cp(args) => args.run(client).await,
        Verb::Exec(args) => args.run(client).await,
        Verb::Inspect(args) => args.run(client).await,
        Verb::Kill(args) => args.run(client).await,
        Verb::Logs(args) => args.run(client).await,
        Verb::Pods(args) => args.run(client).await,
        Verb::Ps(args) => args.run(client).await,
        Verb::Rm(args) => args.run(client).await,
        Verb::Run(args) => args.run(client).await,
        Verb::Start(args) => args.run(client).await,
        Verb::Stats(args) => args.run(client).await,
        Verb::Stop(args) => args.run(client).await,
        Verb::Top(args) => args.run(client).await,
        verb => speak_of_images(client, verb).await,
    }
}

async fn speak_of_images(client: &client::Client, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Gc(args) => args.run(client).await,
        Verb::Images(args) => args.run(client).await,
        Verb::Load(args) => args.run(client).await,
        Verb::Pull(args) => args.run(client).await,
        Verb::Rmi(args) => args.run(client).await,
        Verb::Save(args) => args.run(client).await,
        _ => anyhow::bail!("this verb needs no daemon"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_words_end_with_no_code_of_a_process() {
        let code = |words: &[&str]| {
            let error = Cli::try_parse_from([&["cuddy"], words].concat()).unwrap_err();
            wrong(&error, words.iter().map(OsString::from))
        };
        assert_eq!(code(&["--address", "/x", "run", "--memory", "much", "i"]), 125.into());
        assert_eq!(code(&["exec"]), 125.into());
        assert_eq!(code(&["rm", "--bogus"]), 2.into());
        assert_eq!(code(&["bogus"]), 2.into());
        assert_eq!(code(&["run", "--help"]), 0.into());
    }

    #[test]
    fn options_of_no_verb_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
