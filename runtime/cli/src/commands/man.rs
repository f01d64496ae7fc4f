//! `cuddy man`: writes the manual, for packages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Write a manual page for each verb.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Where to write them.
    directory: PathBuf,
}

impl ManArgs {
    /// Writes them.
    pub(crate) fn run(self, command: clap::Command) -> anyhow::Result<ExitCode> {
        let doing = || format!("writing manual pages to {}", self.directory.display());
        std::fs::create_dir_all(&self.directory).with_context(doing)?;
        clap_mangen::generate_to(command, &self.directory).with_context(doing)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    /// What a page says, without its markup (groff_man(7)).
    fn plain(page: &str) -> String {
        let mut text = page.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\&", "");
        for font in ["\\fB", "\\fI", "\\fR"] {
            text = text.replace(font, "");
        }
        words(&text)
    }

    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The verbs of a command that people use.
    fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
        let verbs = command.get_subcommands();
        verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    }

    #[test]
    fn every_verb_has_a_page_that_says_what_its_help_says() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("man1");
        ManArgs { directory: directory.clone() }.run(Cli::command()).unwrap();
        let mut command = Cli::command();
        command.build();
        let pages = std::fs::read_dir(&directory).unwrap().count();
        let mut verbs = Vec::new();
        for verb in shown(&command) {
            let own =
                shown(verb).map(|own| (format!("{}-{}", verb.get_name(), own.get_name()), own));
            verbs.extend(own.chain([(verb.get_name().to_owned(), verb)]));
        }
        assert_eq!(pages, verbs.len() + 1, "and one for all");
        for (name, verb) in verbs {
            let mut verb = verb.clone();
            let page = std::fs::read_to_string(directory.join(format!("cuddy-{name}.1")));
            let (page, help) = (plain(&page.unwrap()), words(&verb.render_long_help().to_string()));
            let mut said: Vec<_> = verb.get_about().into_iter().map(ToString::to_string).collect();
            // Each says of `--help` itself that there is more in the other.
            let options = verb.get_arguments().filter(|option| !option.is_hide_set());
            for option in options.filter(|option| option.get_id() != "help") {
                said.extend(option.get_long().map(|long| format!("--{long}")));
                said.extend(option.get_help().map(ToString::to_string));
                let values = option.get_value_names().unwrap_or_default();
                let takes = option.get_action().takes_values();
                said.extend(values.iter().filter(|_| takes).map(ToString::to_string));
            }
            assert!(said.len() > 1, "{name}: {said:?}");
            for text in said.iter().map(|text| words(text)) {
                assert!(help.contains(&text), "{name}: {text:?} is not in the help: {help}");
                assert!(page.contains(&text), "{name}: {text:?} is not in the page: {page}");
            }
        }
    }
}
