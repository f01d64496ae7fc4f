//! `cuddy template list`: the templates that are there.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};
use template::{Listed, Store};

use crate::human::{age, short, since, size};
use crate::output;

/// List templates.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print names only.
    #[arg(short, long)]
    quiet: bool,
    /// Print a stable structure for programs.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

impl ListArgs {
    /// Lists them.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let all = Store::of_node().list()?;
        if self.json {
            output::json(&all.iter().map(object).collect())?;
        } else if self.quiet {
            let keys: String = all.iter().map(|listed| format!("{}\n", listed.key)).collect();
            output::print(keys.as_bytes())?;
        } else {
            let heads = ["TEMPLATE", "MEMORY", "CPUS", "NAMESPACE", "SIZE", "BUILT", "STATE"];
            let now = SystemTime::now();
            let rows = all.iter().map(|listed| row(listed, now));
            output::print(output::table(&heads, rows).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(listed: &Listed, now: SystemTime) -> Vec<String> {
    let mut row = vec![short(listed.key.as_str())];
    match &listed.record {
        Ok(record) => {
            let built = i64::try_from(record.built_unix_s).unwrap_or(0).saturating_mul(NANOS);
            row.extend([
                format!("{}MiB", record.recipe.memory_mib),
                record.recipe.vcpus.to_string(),
                record.recipe.tenant.clone().unwrap_or_else(|| "<all>".to_owned()),
                size(listed.bytes),
                format!("{} ago", age(since(built, now))),
            ]);
        }
        Err(_) => row.extend([""; 5].map(str::to_owned)),
    }
    row.push(state(listed));
    row
}

/// Nanoseconds of a second.
const NANOS: i64 = 1_000_000_000;

/// Whether pods start from it, in a word; a reason follows where it is damaged.
fn state(listed: &Listed) -> String {
    match &listed.record {
        Err(error) => format!("damaged: {error}"),
        Ok(_) if listed.is_stale() => "stale".to_owned(),
        Ok(_) => "ok".to_owned(),
    }
}

fn object(listed: &Listed) -> Value {
    let record = listed.record.as_ref().ok();
    json!({
        "key": listed.key.as_str(),
        "bytes": listed.bytes,
        "state": state(listed),
        "memoryMib": record.map(|record| record.recipe.memory_mib),
        "vcpus": record.map(|record| record.recipe.vcpus),
        "namespace": record.and_then(|record| record.recipe.tenant.as_ref()),
        "builtUnixSeconds": record.map(|record| record.built_unix_s),
        "tookMs": record.map(|record| record.took_ms),
        "kernelSha256": record.map(|record| record.kernel.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use template::TemplateError;

    use super::*;

    #[test]
    fn damaged_template_is_listed_with_the_reason() {
        let key: template::Key = "ab".repeat(16).parse().unwrap();
        let reason = "template.json: cut off".to_owned();
        let record = Err(TemplateError::Damaged { key: key.clone(), reason });
        let listed = Listed { key, record, bytes: 5 };
        let row = row(&listed, SystemTime::now());
        assert_eq!((row.len(), row[0].as_str()), (7, "abababababab"));
        assert!(row[6].contains("cut off"), "{row:?}");
        assert_eq!(object(&listed)["memoryMib"], Value::Null);
    }
}
