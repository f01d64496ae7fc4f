//! `cuddy gc`: removes images that no container uses.

use std::process::ExitCode;

use protocol::node::{Image, PruneRequest, PruneResponse};
use serde_json::{Value, json};

use crate::client::{Client, answer};
use crate::human::{short, size};
use crate::output;

/// Remove images that no container has, not even one that has ended. Pinned images stay.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Only images that have no tag any more.
    #[arg(long)]
    untagged: bool,
    /// Only say which these are.
    #[arg(long)]
    dry_run: bool,
    /// Print a stable structure for programs.
    #[arg(long)]
    json: bool,
}

impl GcArgs {
    /// Removes them, and prints which they were.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let Self { untagged, dry_run, json } = self;
        let pruned = answer(client.node().prune(PruneRequest { untagged, dry_run }).await)?;
        match json {
            true => output::json(&object(&pruned, dry_run))?,
            false => output::print(text(&pruned, dry_run).as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A table, and how much it is (pure).
fn text(PruneResponse { images, bytes }: &PruneResponse, dry_run: bool) -> String {
    let row = |image: &Image| {
        let names = image.names.join(" ");
        let names = if names.is_empty() { "<none>".to_owned() } else { names };
        vec![names, short(&image.id), size(image.size)]
    };
    let sum = match dry_run {
        true => format!("{} would be freed\n", size(*bytes)),
        false => format!("{} freed\n", size(*bytes)),
    };
    match images.is_empty() {
        true => sum,
        false => output::table(&["IMAGE", "IMAGE ID", "SIZE"], images.iter().map(row)) + &sum,
    }
}

/// The same for programs (pure).
fn object(PruneResponse { images, bytes }: &PruneResponse, dry_run: bool) -> Value {
    let image = |image: &Image| json!({ "id": image.id, "tags": image.names, "size": image.size });
    let images: Vec<_> = images.iter().map(image).collect();
    json!({ "images": images, "bytes": bytes, "dryRun": dry_run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_listed_with_its_sum() {
        let id = "sha256:0123456789abcdef".to_owned();
        let image = Image { id: id.clone(), names: vec!["a:1".into()], size: 2048 };
        let pruned = PruneResponse { images: vec![image], bytes: 1024 };
        let expected =
            "IMAGE  IMAGE ID      SIZE\na:1    0123456789ab  2.00KiB\n1.00KiB would be freed\n";
        assert_eq!(text(&pruned, true), expected);
        assert_eq!(text(&PruneResponse::default(), false), "0B freed\n");
        let told = object(&pruned, true);
        assert_eq!((&told["images"][0]["id"], &told["bytes"]), (&json!(id), &json!(1024)));
    }
}
