//! What strangers write about images: users, registries, servers of tokens, credential helpers,
//! and operators in their files. The first byte of an input says which parser gets the rest.
//!
//! Checked besides panics:
//! - Errors and warnings are short and do nothing to a terminal.
//! - A name is read as it is written out, also in its short form.
//! - A manifest, an index and a challenge that are accepted are within their limits.
//! - Addresses made of what was accepted are URLs with the host that was named.
//! - A secret in a file of credentials, or in an answer with one, is not in an error.
//! - No allocation is larger than a few inputs.

use std::fmt::Display;
use std::path::Path;
use std::time::SystemTime;

use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Uri};
use image::challenge::token::{MAX_LIFETIME, MIN_LIFETIME, Token};
use image::challenge::{Challenge, Reply};
use image::credentials::{AuthConfig, Credentials, DockerConfig, Program, Source};
use image::hosts::{HostsFile, Transport};
use image::manifest::{Document, ImageConfig, MAX_LAYERS, Manifest, Platform};
use image::reference::ImageName;
use image::registry::answer::{self, ContentRange};
use image::{Digest, Reference, Secret, redact};

use crate::{hostile, limits};

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

/// A word that no error may show. The corpus has it where secrets are.
const SECRET: &str = "hunter2";

fn said<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| hostile::check(&error.to_string())).ok()
}

/// The same of an input that is secret.
fn whispered<T, E: Display>(result: Result<T, E>) -> Option<T> {
    let silent = |error: &E| assert!(!error.to_string().contains(SECRET), "{error}");
    said(result.inspect_err(silent))
}

fn reference(text: &str) {
    said(text.parse::<ImageName>());
    let Some(name) = said(text.parse::<Reference>()) else { return };
    let whole = name.to_string();
    hostile::check(&whole);
    assert_eq!(whole.parse().as_ref(), Ok(&name), "{text}");
    assert_eq!(name.familiar().parse().as_ref(), Ok(&name), "{text}");
    let host = whole.split('/').next().unwrap();
    assert_eq!(host, name.domain());
}

fn digest(text: &str) {
    if let Some(digest) = said(text.parse::<Digest>()) {
        assert_eq!(digest.as_str(), text);
        assert!(digest.hex().len() == digest.algorithm().digits());
    }
}

fn manifest(text: &str) {
    let (content_type, body) = text.split_once('\n').unwrap_or(("", text));
    let content_type = Some(content_type).filter(|text| !text.is_empty());
    match said(Document::parse(body.as_bytes(), content_type)) {
        Some(Document::Manifest(manifest)) => {
            let sum = manifest.layers.iter().map(|layer| layer.blob.size).sum::<u64>();
            assert_eq!(manifest.size, sum + manifest.config.size);
            assert!(manifest.layers.len() <= MAX_LAYERS);
        }
        Some(Document::Index(index)) => {
            for platform in [Platform::guest(), Platform::new("linux", "amd64", "v3")] {
                said(index.choose(&platform));
            }
        }
        None => {}
    }
}

fn config(text: &str) {
    let config = image::manifest::Blob { digest: Digest::of(b""), size: 0 };
    let mut manifest = Manifest { config, layers: Vec::new(), size: 0 };
    let Ok(layer) = Document::parse(ONE_LAYER, None) else { panic!("the fuzzer's own manifest") };
    if let Document::Manifest(one) = layer {
        // As many layers as the first letter says.
        let count = usize::from(text.bytes().next().unwrap_or_default() % 4);
        manifest.layers = one.layers.into_iter().cycle().take(count).collect();
    }
    let body = text.get(1..).unwrap_or_default();
    if let Some(config) = said(ImageConfig::parse(body.as_bytes(), &manifest)) {
        assert_eq!(config.diff_ids.len(), manifest.layers.len());
        Platform::guest().runs(&config.platform);
    }
}

const ONE_LAYER: &[u8] = br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":1,"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1,"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}"#;

fn hosts(text: &str) {
    let path = Path::new("/etc/containerd/certs.d/docker.io/hosts.toml");
    let Some(file) = said(HostsFile::parse(text, path)) else { return };
    file.warnings.iter().for_each(|warning| hostile::check(warning));
    let image: Reference = "docker.io/library/busybox:latest".parse().unwrap();
    let endpoints = file.endpoints(image.domain());
    assert!(!endpoints.is_empty());
    for endpoint in endpoints {
        assert!(endpoint.tls.ca.iter().all(|path| path.is_absolute()));
        for transport in endpoint.transports.clone() {
            let url: Uri = endpoint.manifest(transport, &image).parse().unwrap();
            assert_eq!(url.authority().unwrap().as_str(), endpoint.host);
            assert!(url.path().ends_with("/library/busybox/manifests/latest"), "{url}");
        }
    }
}

fn challenge(text: &str) {
    let values = text.split('\n').filter_map(|value| HeaderValue::from_str(value).ok());
    let headers: HeaderMap = values.map(|value| (WWW_AUTHENTICATE, value)).collect();
    let Some(challenge) = said(Challenge::strongest(&headers)) else { return };
    let user = Credentials::Password { user: "u".to_owned(), password: Secret::new(SECRET) };
    let token = Credentials::IdentityToken(Secret::new(SECRET));
    for transport in [Transport::Https, Transport::Http] {
        for credentials in [None, Some(&user), Some(&token)] {
            let reply = challenge.reply(transport, "repository:a:pull", credentials);
            let Some(Reply::Ask(requests)) = said(reply) else { continue };
            for request in requests {
                let url: Uri = request.url.parse().unwrap();
                let clear = url.scheme_str() == Some("http");
                assert!(!(clear && transport == Transport::Https), "{url} in the clear");
                assert!(!url.authority().unwrap().as_str().contains('@'), "{url}");
            }
        }
    }
}

fn token(text: &str) {
    if let Some(token) = whispered(Token::parse(text.as_bytes())) {
        let lifetime = token.good_for(SystemTime::now());
        assert!((MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime));
        assert!(HeaderValue::from_str(token.authorization().expose()).is_ok());
    }
}

fn docker_config(text: &str) {
    let Some(config) = whispered(DockerConfig::parse(text.as_bytes())) else { return };
    for (server, repository) in [("registry-1.docker.io", "library/a"), ("[::1]:5000", "a/b")] {
        for source in said(config.sources(server, repository)).unwrap_or_default() {
            match source {
                Source::Stored(credentials) => header(&credentials),
                Source::Program { program, .. } => hostile::check(&format!("{program:?}")),
            }
        }
    }
}

fn header(credentials: &Credentials) {
    assert!(!format!("{credentials:?}").contains(SECRET));
    if let (Credentials::Password { .. }, None) = (credentials, credentials.authorization()) {
        panic!("a password without a header");
    }
}

fn auth_config(text: &str) {
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (server_address, username, password) = (line(), line(), Secret::new(line()));
    let (auth, server) = (Secret::new(line()), line());
    let config = AuthConfig { username, password, auth, server_address, ..AuthConfig::default() };
    if let Some(Some(credentials)) = said(config.for_server(&server)) {
        header(&credentials);
    }
}

fn program(text: &str) {
    let success = text.starts_with('0');
    let output = text.get(1..).unwrap_or_default();
    // What a program says of its failure is shown, as far as it looks like no secret.
    let answer = Program::answer(success, output.as_bytes());
    let answer = if success { whispered(answer) } else { said(answer) };
    if let Some(Some(credentials)) = answer {
        header(&credentials);
    }
}

fn text_of_others(text: &str) {
    let shown = redact::redact(text);
    hostile::check(&shown);
    assert!(shown.len() <= redact::MAX_TEXT);
    for (before, after) in [("https://u:", "@h/"), ("https://h/?s=", ""), ("Bearer ", "")] {
        let shown = redact::redact(&format!("{before}{SECRET}{after} {text}"));
        assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown}");
    }
}

/// The headers of an answer: a part of a blob, a pause, and where a redirect leads.
fn headers(text: &str) {
    if let Some(range) = ContentRange::parse(text) {
        let (first, last, whole) = (range.first, range.last, range.whole);
        assert!(first <= last && whole.is_none_or(|whole| last < whole));
        assert!(range.length() > 0);
        let written = whole.map_or_else(|| "*".to_owned(), |whole| whole.to_string());
        let written = format!("bytes {first}-{last}/{written}");
        assert_eq!(ContentRange::parse(&written), Some(range), "{text}");
    }
    let Ok(value) = HeaderValue::from_str(text) else { return };
    answer::retry_after(&[(RETRY_AFTER, value.clone())].into_iter().collect(), SystemTime::now());
    for from in ["https://registry.test/v2/a/blobs/b?ns=c", "http://[::1]:5000/v2/a"] {
        let from = from.parse().unwrap();
        match answer::location(&from, Some(&value)) {
            Ok(to) => {
                assert!(to.scheme() == "https" || to.scheme() == "http" && from.scheme() == "http");
                assert!(to.has_host() && to.username().is_empty() && to.password().is_none());
            }
            Err(reason) => hostile::check(reason),
        }
    }
}

/// The body of a refusal.
fn refusal(text: &str) {
    hostile::check(&answer::words(text.as_bytes()));
    let message = format!("https://u:{SECRET}@h/ {text}");
    let body = serde_json::json!({ "errors": [{ "code": text, "message": message }] });
    let words = answer::words(body.to_string().as_bytes());
    hostile::check(&words);
    assert!(text.contains(SECRET) || !words.contains(SECRET), "{words}");
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let parsers = [
        reference,
        digest,
        manifest,
        config,
        hosts,
        challenge,
        token,
        docker_config,
        auth_config,
        program,
        text_of_others,
        headers,
        refusal,
    ];
    let Some((kind, rest)) = input.split_first() else { return };
    // All but bodies are text already when they come, and bodies are no JSON if they are not.
    let text = String::from_utf8_lossy(rest);
    limits::within(LARGEST, || parsers[usize::from(*kind) % parsers.len()](&text));
}
