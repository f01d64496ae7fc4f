//! `cuddy completions`: what a shell completes.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::output;

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints them.
    pub(crate) fn run(self, command: clap::Command) -> anyhow::Result<ExitCode> {
        output::print(&text(self.shell, command))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut command, "cuddy", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::Cli;

    #[test]
    fn every_shell_completes_every_verb_and_option() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(text(*shell, Cli::command())).unwrap();
            for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
                let options = verb.get_arguments().filter_map(clap::Arg::get_long);
                let missing = options.chain([verb.get_name()]).find(|word| !text.contains(word));
                assert_eq!(missing, None, "{shell}: {}", verb.get_name());
            }
        }
    }
}
