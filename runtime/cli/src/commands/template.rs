//! `cuddy template`: the node's templates, which machines start from.

mod create;
mod list;
mod rm;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use template::{Key, Listed, Lock, Store};

/// Build, list, check and remove templates of machines.
#[derive(Debug, clap::Args)]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Verify(verify::VerifyArgs),
    Rm(rm::RmArgs),
}

impl TemplateArgs {
    /// Does what is asked for, without any daemon.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Create(args) => args.run(),
            Verb::List(args) => args.run(),
            Verb::Verify(args) => args.run(),
            Verb::Rm(args) => args.run(),
        }
    }
}

/// Takes the store's lock, and says so if that takes a while.
fn lock(store: &Store) -> anyhow::Result<Lock> {
    match store.try_lock() {
        Err(error @ template::TemplateError::Busy(_)) => {
            eprintln!("cuddy: {error}; waiting for its end");
            Ok(store.lock()?)
        }
        lock => Ok(lock?),
    }
}

/// What runs machines.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting threads")
}

/// The templates that `keys` name by their beginnings; all of them if there are none.
fn chosen(store: &Store, keys: &[String]) -> anyhow::Result<Vec<Listed>> {
    let all = store.list()?;
    let names: Vec<_> = all.iter().map(|listed| listed.key.clone()).collect();
    let wanted = pick(&names, keys)?;
    Ok(all.into_iter().filter(|listed| wanted.contains(&listed.key)).collect())
}

/// The names that begin as the words do, each of which must mean one; all for no words (pure).
fn pick(names: &[Key], words: &[String]) -> anyhow::Result<Vec<Key>> {
    let mut picked = Vec::new();
    for word in words {
        let mut found = names.iter().filter(|key| key.as_str().starts_with(word.as_str()));
        match (found.next(), found.next()) {
            (Some(key), None) if !word.is_empty() => picked.push(key.clone()),
            (None, _) => anyhow::bail!("no template {word:?}; `cuddy template list` lists them"),
            _ => anyhow::bail!("{word:?} is the beginning of several templates: say more of it"),
        }
    }
    Ok(if words.is_empty() { names.to_vec() } else { picked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_named_by_their_beginning() {
        let key = |digit: &str| format!("{digit}{}", "0".repeat(31)).parse::<Key>().unwrap();
        let names = [key("a"), key("b")];
        let picked = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            pick(&names, &words).map_err(|error| error.to_string())
        };
        assert_eq!(picked(&[]).unwrap(), names);
        assert_eq!(picked(&["b0"]).unwrap(), [key("b")]);
        assert!(picked(&["c"]).unwrap_err().contains("cuddy template list"));
        assert!(picked(&[""]).unwrap_err().contains("several"));
    }
}
