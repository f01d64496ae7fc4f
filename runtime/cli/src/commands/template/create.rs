//! `cuddy template create`: builds templates now.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use host::Config;
use host::capacity::Host;
use host::config::Templates;
use serde_json::{Value, json};
use template::{Builder, Key, Recipe, Record, Store, TemplateError, Wish, class_for};

use crate::output;

/// Build templates that are not there yet.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Memory of the machines that start from it, in MiB; rounded up to a size that templates have
    /// [default: that of a pod without limits].
    #[arg(long, value_name = "MIB")]
    memory: Vec<u64>,
    /// Namespace that it is for, where the configuration has templates for each: Kubernetes', or
    /// containerd's as `containerd/NAME`.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Print a stable structure for programs.
    #[arg(long)]
    json: bool,
}

/// A template that is there now.
struct Made {
    key: Key,
    record: Record,
    new: bool,
}

impl CreateArgs {
    /// Builds them, and prints their names.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load()?;
        let host = Host::read()?;
        if config.templates == Templates::Namespace && self.namespace.is_none() {
            anyhow::bail!("templates are for one namespace each: say which by --namespace");
        }
        let asked =
            if self.memory.is_empty() { vec![config.default_memory_mib] } else { self.memory };
        let sizes = classes(&asked, host.memory_mib)?;
        let (runtime, mut all) = (super::runtime()?, Vec::new());
        for memory_mib in sizes {
            let wish = Wish { memory_mib, tenant: self.namespace.clone() };
            all.push(runtime.block_on(make(&config, host, &wish))?);
        }
        match self.json {
            true => output::json(&all.iter().map(object).collect())?,
            false => output::print(all.iter().map(line).collect::<String>().as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn make(config: &Config, host: Host, wish: &Wish) -> anyhow::Result<Made> {
    let store = Store::of_node();
    let doing = || format!("building a template of {} MiB", wish.memory_mib);
    let recipe = Recipe::of(config, wish, host).with_context(doing)?;
    let recipe = recipe.ok_or(TemplateError::Unwanted).with_context(doing)?;
    let lock = super::lock(&store)?;
    let builder = Builder::new(&store, config, recipe, lock).with_context(doing)?;
    let (record, new) = builder.build().await.with_context(doing)?;
    Ok(Made { key: builder.key().clone(), record, new })
}

/// The sizes that templates for machines of these sizes have, each once (pure).
fn classes(asked: &[u64], host: u64) -> anyhow::Result<Vec<u64>> {
    let mut classes = Vec::new();
    for &mib in asked {
        let class = class_for(mib, host).with_context(|| {
            format!("a machine of {mib} MiB is larger than the host ({host} MiB)")
        })?;
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    Ok(classes)
}

fn line(Made { key, record, new }: &Made) -> String {
    let memory = record.recipe.memory_mib;
    let took = Duration::from_millis(record.took_ms).as_secs_f64();
    let built = if *new { format!("built in {took:.1} s") } else { "was there".to_owned() };
    format!("{key}  {memory} MiB, {built}\n")
}

fn object(Made { key, record, new }: &Made) -> Value {
    json!({
        "key": key.as_str(),
        "memoryMib": record.recipe.memory_mib,
        "new": new,
        "tookMs": record.took_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_and_named_once() {
        assert_eq!(classes(&[200, 256, 512], 2000).unwrap(), [256, 512]);
        let error = classes(&[4096], 2000).unwrap_err().to_string();
        assert!(error.contains("4096 MiB") && error.contains("2000 MiB"), "{error}");
    }
}
