//! `cuddy images`: the images that are here.

use std::process::ExitCode;

use protocol::cri::Image;
use serde_json::{Value, json};

use crate::client::Client;
use crate::human::{short, size};
use crate::output;

/// List images.
#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArgs {
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
    /// Print a stable structure for programs.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

impl ImagesArgs {
    /// Lists them.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let images = client.images().await?;
        if self.json {
            output::json(&images.iter().map(object).collect())?;
        } else if self.quiet {
            let ids: String = images.iter().map(|image| image.id.clone() + "\n").collect();
            output::print(ids.as_bytes())?;
        } else {
            let rows = images.iter().flat_map(rows);
            let text = output::table(&["IMAGE", "TAG", "IMAGE ID", "SIZE"], rows);
            output::print(text.as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row for each name of an image; one without a tag is shown by its digest's name (pure).
fn rows(image: &Image) -> Vec<Vec<String>> {
    let row = |name: &str, tag: &str| {
        vec![name.to_owned(), tag.to_owned(), short(&image.id), size(image.size)]
    };
    let mut rows: Vec<_> = image.repo_tags.iter().map(|name| split(name)).collect();
    if rows.is_empty() {
        let digests = image.repo_digests.iter();
        rows.extend(digests.map(|name| (name.split('@').next().unwrap_or(name), "<none>")));
    }
    if rows.is_empty() {
        rows.push(("<none>", "<none>"));
    }
    rows.into_iter().map(|(name, tag)| row(name, tag)).collect()
}

/// A name without its tag, and the tag. A port is before a slash.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "<none>"),
    }
}

fn object(image: &Image) -> Value {
    json!({
        "id": image.id,
        "tags": image.repo_tags,
        "digests": image.repo_digests,
        "size": image.size,
        "pinned": image.pinned,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_an_image_is_a_row() {
        let image = Image {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: vec!["a:5000/b:1".into(), "c:2".into()],
            repo_digests: vec!["d@sha256:1".into()],
            size: 2048,
            ..Image::default()
        };
        let names = |image: &Image| -> Vec<_> {
            rows(image).iter().map(|row| row[..2].join(" ")).collect()
        };
        assert_eq!(names(&image), ["a:5000/b 1", "c 2"]);
        assert_eq!(rows(&image)[0][2..], ["0123456789ab", "2.00KiB"]);
        let image = Image { repo_tags: vec![], ..image };
        assert_eq!(names(&image), ["d <none>"]);
        assert_eq!(names(&Image::default()), ["<none> <none>"]);
        assert_eq!(split("a:5000/b"), ("a:5000/b", "<none>"));
    }
}
