//! `cuddy template verify`: tries templates in machines of nobody's.

use std::process::ExitCode;

use api::error::chain;
use host::Config;
use serde_json::{Value, json};
use template::{Key, Listed, NotAKey, Store, TemplateError, try_out};

use crate::output;

/// Start a machine from each template, and tell whether its agent answers.
///
/// Exit status: 0 all do, 1 one does not, 2 wrong usage.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print a stable structure for programs.
    #[arg(long)]
    json: bool,
    /// Names, or beginnings of them [default: all].
    #[arg(value_name = "TEMPLATE")]
    keys: Vec<String>,
}

/// What came of one: milliseconds until the machine ran, or why its agent did not answer.
struct Tried(Key, Result<u128, String>);

impl VerifyArgs {
    /// Tries them, and prints what came of it.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::of_node();
        let config = Config::load()?;
        let lock = super::lock(&store)?;
        let runtime = super::runtime()?;
        let mut all = Vec::new();
        for Listed { key, record, .. } in super::chosen(&store, &self.keys)? {
            let tried = record.and_then(|_| {
                let gone = || TemplateError::from(NotAKey(key.to_string()));
                let template = store.get(&key)?.ok_or_else(gone)?;
                runtime.block_on(try_out(&store, &config, template, &lock))
            });
            let tried =
                tried.map(|tried| tried.ready_in.as_millis()).map_err(|error| chain(&error));
            all.push(Tried(key, tried));
        }
        match self.json {
            true => output::json(&all.iter().map(object).collect())?,
            false => output::print(all.iter().map(line).collect::<String>().as_bytes())?,
        }
        let good = all.iter().all(|Tried(_, tried)| tried.is_ok());
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn line(Tried(key, tried): &Tried) -> String {
    match tried {
        Ok(ms) => format!("{key}  ok, runs after {ms} ms\n"),
        Err(reason) => format!("{key}  failed: {reason}; `cuddy template rm {key}` removes it\n",),
    }
}

fn object(Tried(key, tried): &Tried) -> Value {
    json!({
        "key": key.as_str(),
        "ok": tried.is_ok(),
        "runsAfterMs": tried.as_ref().ok(),
        "reason": tried.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_that_fails_is_told_with_the_way_out() {
        let key: Key = "ab".repeat(16).parse().unwrap();
        let good = Tried(key.clone(), Ok(20));
        assert!(line(&good).ends_with("ok, runs after 20 ms\n"));
        let bad = Tried(key.clone(), Err("it hangs".to_owned()));
        assert!(line(&bad).contains(&format!("it hangs; `cuddy template rm {key}`")));
        assert_eq!(object(&bad)["reason"], "it hangs");
        assert_eq!(object(&good)["runsAfterMs"], 20);
    }
}
