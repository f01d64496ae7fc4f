//! The client against servers on loopback that do as each test says.

mod access;
mod blobs;
mod documents;
mod mirrors;
pub(crate) mod server;
mod transport;

use std::time::Duration;

use futures::StreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::secret::Secret;
use server::{Answer, Request, Server};

/// Patience for tests whose clock is the real one: nothing is waited for without need.
pub(crate) fn patience() -> Patience {
    let (first_pause, longest_pause) = (Duration::from_millis(1), Duration::from_millis(5));
    Patience { first_pause, longest_pause, ..Patience::default() }
}

/// An image of one layer, as a registry has it.
struct Sample {
    layer: Vec<u8>,
    config: String,
    manifest: String,
    index: String,
}

impl Sample {
    fn new() -> Self {
        let layer: Vec<u8> =
            (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let digest = Digest::of(&layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let describe = |kind: &str, content: &[u8], more: &str| {
            let (digest, size) = (Digest::of(content), content.len());
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}{more}}}"#
            )
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            describe("config.v1+json", config.as_bytes(), ""),
            describe("layer.v1.tar", &layer, "")
        );
        let platform = r#","platform":{"os":"linux","architecture":"amd64"}"#;
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            describe("manifest.v1+json", manifest.as_bytes(), platform)
        );
        Self { layer, config, manifest, index }
    }

    fn blob(&self) -> Blob {
        Blob { digest: Digest::of(&self.layer), size: self.layer.len() as u64 }
    }

    /// What a registry with this image answers. Its tag `latest` means the index.
    fn answer(&self, request: &Request) -> Answer {
        let object = request.path.split('?').next().unwrap().rsplit('/').next().unwrap();
        let documents = [&self.index, &self.manifest, &self.config];
        let documents = documents.into_iter().map(String::as_bytes);
        let found = documents.chain([self.layer.as_slice()]).find(|content| {
            object == Digest::of(content).as_str()
                || object == "latest" && *content == self.index.as_bytes()
        });
        match found {
            Some(content) if content.starts_with(b"{\"schema") => {
                let content = std::str::from_utf8(content).unwrap();
                let kind = if content.contains("manifests") { "index" } else { "manifest" };
                let kind = format!("application/vnd.oci.image.{kind}.v1+json");
                let digest = Digest::of(content.as_bytes()).to_string();
                let answer = Answer::ok(content.as_bytes()).with("content-type", &kind);
                answer.with("docker-content-digest", &digest)
            }
            Some(content) => Answer::ok(content).part_for(request),
            None => Answer::status(404).json(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        }
    }
}

/// A folder whose `hosts.toml` counts for all registries.
pub(crate) fn configured(toml: &str) -> (TempDir, Hosts) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("_default")).unwrap();
    std::fs::write(folder.path().join("_default/hosts.toml"), toml).unwrap();
    let hosts = Hosts::new(folder.path().to_str().unwrap());
    (folder, hosts)
}

/// A pull of `latest` by a `hosts.toml`.
async fn by(toml: &str, login: Login, patience: Patience) -> Registry {
    let (_folder, hosts) = configured(toml);
    let reference = "registry.test/some/image".parse().unwrap();
    Registry::open(reference, &hosts, login, patience).await.unwrap()
}

/// A pull of `latest` from one server, without a mirror.
async fn from(server: &Server, login: Login, patience: Patience) -> Registry {
    by(&format!("server = \"{}\"", server.url()), login, patience).await
}

/// Lets a paused clock go on in small steps. It jumps to the next deadline when no task can go on,
/// also while bytes are on their way on loopback. Now that deadline is always near, and there is
/// time for the bytes before one that a test is about.
fn in_small_steps() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

/// All bytes of a stream, and the error that ended it.
async fn drain(mut stream: BlobStream) -> (Vec<u8>, Option<RegistryError>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => {
                assert!(stream.next().await.is_none(), "more after an error");
                return (bytes, Some(error));
            }
        }
    }
    (bytes, None)
}

/// The error's text, after a check that it and its `Debug` show nothing of the secrets.
fn told(error: &RegistryError) -> String {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("sig="), "{shown}");
    error.to_string()
}

fn password() -> Login {
    Login::Sent(auth())
}

pub(crate) fn auth() -> AuthConfig {
    let (username, password) = ("user".to_owned(), Secret::new("hunter2"));
    AuthConfig { username, password, ..AuthConfig::default() }
}
