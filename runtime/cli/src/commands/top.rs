//! `cuddy top`: what containers use, again and again.

use std::cmp::Reverse;
use std::process::ExitCode;
use std::time::Duration;

use super::stats::{all, table, usages};
use crate::client::Client;
use crate::output;

/// Home, and everything behind it away (ECMA-48: CUP, ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Show what containers use, the busiest first, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// Between two looks, in seconds.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    delay: u64,
}

impl TopArgs {
    /// Shows it; returns when it is interrupted.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut before = all(client).await?;
        let mut turns = tokio::time::interval(Duration::from_secs(self.delay));
        // The first turn is now.
        turns.tick().await;
        loop {
            turns.tick().await;
            let now = all(client).await?;
            let mut usages = usages(&before, &now);
            usages.sort_by_key(|usage| Reverse(usage.cpu()));
            output::print(format!("{CLEAR}{}", table(&usages)).as_bytes())?;
            before = now;
        }
    }
}
