//! What a part of the benchmarks gives: a table for people, the same for programs, a picture.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

/// Where results go.
#[derive(Debug, clap::Args)]
pub(crate) struct Results {
    /// Directory for NAME.txt, NAME.json and, of some parts, NAME.svg.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    /// What one second means on this host, for the report.
    #[arg(long, default_value = "wall clock", global = true)]
    pub(crate) clock: String,
}

/// The form of the JSON files.
#[derive(Serialize)]
struct File<'a, T> {
    clock: &'a str,
    numbers: &'a T,
}

impl Results {
    /// Prints the table of the part `name`, and keeps it and its numbers.
    pub(crate) fn give(&self, name: &str, table: &str, numbers: &impl Serialize) -> Result<()> {
        let clock = &self.clock;
        let table = format!("one second is {clock}\n{table}");
        print!("{table}");
        self.write(&format!("{name}.txt"), &table)?;
        let json = serde_json::to_string_pretty(&File { clock, numbers })? + "\n";
        self.write(&format!("{name}.json"), &json)
    }

    /// Prints more of the part `name`, and adds it to its table: for what comes after that.
    pub(crate) fn add(&self, name: &str, text: &str) -> Result<()> {
        print!("{text}");
        let Some(out) = &self.out else { return Ok(()) };
        let path = out.join(format!("{name}.txt"));
        let file = OpenOptions::new().append(true).open(&path);
        let added = file.and_then(|mut file| file.write_all(text.as_bytes()));
        added.with_context(|| format!("adding to {}", path.display()))
    }

    /// Keeps a file, if anything is kept.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        let path = out.join(file);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}
