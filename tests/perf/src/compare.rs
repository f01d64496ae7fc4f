//! Two results of the benchmarks beside each other: what was counted before, and what is now.
//!
//! Only counted instructions are judged: they repeat, whatever else the machine does. A result of
//! the wall clock is left out. A count is one of three things in a part's JSON:
//!
//! - samples, as a list of numbers: their median;
//! - a `value` whose `unit` is `s`;
//! - the length of a call, from its `begin` to its `end`. Steps within a call are not judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::samples::Samples;
use crate::table::Table;

/// A count may grow by less than so much of itself.
const REGRESSION: f64 = 0.03;

/// What the clock of a result says if instructions are counted.
const COUNTED: &str = "icount";

/// Names of what holds no counts: limits, steps within calls, and memory in MiB.
const OTHER: [&str; 5] = ["at_most", "steps", "without", "with", "after"];

/// Options of `perf compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The result before: a file of one part, or a directory with those of several.
    base: PathBuf,
    /// The result now, of the same kind.
    now: PathBuf,
}

/// Counts by the place where they are in a result.
type Counts = BTreeMap<String, f64>;

/// A count in both results.
#[derive(Debug, PartialEq)]
struct Change {
    what: String,
    base: f64,
    now: f64,
}

impl Change {
    /// By which part of the base the count grew.
    fn grown(&self) -> f64 {
        self.now / self.base - 1.0
    }

    /// Ours only: a peer's count grows where the host or the peer has changed.
    fn is_regression(&self) -> bool {
        self.what.contains("cuddy") && self.grown() >= REGRESSION
    }
}

impl CompareArgs {
    /// Compares and tells; whether nothing regressed.
    ///
    /// # Errors
    /// When a result can't be read, or both have no count in common.
    pub(crate) fn run(&self) -> Result<bool> {
        let (base, now) = (read(&self.base)?, read(&self.now)?);
        let changes = changes(&base, &now);
        ensure!(!changes.is_empty(), "both results have no counted instructions in common");
        print!("{}", table(&changes));
        for (only, other, whose) in [(&base, &now, "before"), (&now, &base, "now")] {
            for what in only.keys().filter(|what| !other.contains_key(*what)) {
                println!("only {whose}: {what}");
            }
        }
        Ok(!changes.iter().any(Change::is_regression))
    }
}

/// The counts of a file, or of all results in a directory.
fn read(path: &Path) -> Result<Counts> {
    let mut counts = Counts::new();
    if !path.is_dir() {
        add(path, &mut counts)?;
        return Ok(counts);
    }
    let entries = path.read_dir().with_context(|| format!("listing {}", path.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", path.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            add(&path, &mut counts)?;
        }
    }
    Ok(counts)
}

/// Adds the counts of a file, below its part's name.
fn add(path: &Path, counts: &mut Counts) -> Result<()> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("reading {}", path.display()))?;
    let result: Value =
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let part = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    collect(&part.unwrap_or_default(), &result, counts);
    Ok(())
}

/// The counts of a result, if its clock counts instructions.
fn collect(part: &str, result: &Value, counts: &mut Counts) {
    let is_counted = result["clock"].as_str().is_some_and(|clock| clock.contains(COUNTED));
    if is_counted {
        walk(part, &result["numbers"], counts);
    }
}

/// The counts below one place of a result.
fn walk(at: &str, value: &Value, counts: &mut Counts) {
    match value {
        Value::Array(items) => {
            let numbers: Option<Vec<f64>> = items.iter().map(Value::as_f64).collect();
            match numbers {
                Some(numbers) if !numbers.is_empty() => {
                    keep(at, Samples::from(numbers).median(), counts)
                }
                _ => items.iter().enumerate().for_each(|(index, item)| {
                    walk(&format!("{at}: {}", name(item, index)), item, counts);
                }),
            }
        }
        Value::Object(fields) => {
            let number = |key: &str| fields.get(key).and_then(Value::as_f64);
            if let (Some(begin), Some(end)) = (number("begin"), number("end")) {
                keep(at, end - begin, counts);
            } else if let (Some("s"), Some(value)) = (value["unit"].as_str(), number("value")) {
                keep(at, value, counts);
            } else if !fields.contains_key("unit") {
                for (key, field) in fields.iter().filter(|(key, _)| !OTHER.contains(&key.as_str()))
                {
                    walk(&format!("{at}: {key}"), field, counts);
                }
            }
        }
        _ => {}
    }
}

/// What an item of a list calls itself, or its place.
fn name(item: &Value, index: usize) -> String {
    let named = ["who", "what"].iter().find_map(|key| item[key].as_str());
    named.map_or_else(|| index.to_string(), str::to_owned)
}

/// Nothing grows from zero by a part of itself: no count of zero is kept.
fn keep(at: &str, count: f64, counts: &mut Counts) {
    if count > 0.0 {
        counts.insert(at.to_owned(), count);
    }
}

/// What is in both.
fn changes(base: &Counts, now: &Counts) -> Vec<Change> {
    let both = base.iter().filter_map(|(what, &base)| {
        let now = *now.get(what)?;
        Some(Change { what: what.clone(), base, now })
    });
    both.collect()
}

/// For people.
fn table(changes: &[Change]) -> String {
    let mut table = Table::new(["10^6 instructions", "before", "now", "%", ""]);
    for change in changes {
        let verdict = if change.is_regression() { "REGRESSION" } else { "" };
        table.row([
            change.what.clone(),
            format!("{:.1}", change.base * 1000.0),
            format!("{:.1}", change.now * 1000.0),
            format!("{:+.1}", change.grown() * 100.0),
            verdict.to_owned(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
