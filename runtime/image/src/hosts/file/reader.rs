//! The values of a `hosts.toml`: checked, or refused with the key and what to write.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};

use super::super::server::Server;
use super::super::{Capabilities, ClientCertificate, HostsError, duration};
use super::Settings;
use crate::text::{nearest, quoted};

/// Keys of a server. `server` and `host` are possible at the file's top only.
const KEYS: [&str; 9] = [
    "server",
    "host",
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "header",
    "override_path",
    "dial_timeout",
];

const CAPABILITIES: [&str; 4] = ["pull", "resolve", "push", "referrers"];

/// Most warnings of one file.
const MAX_WARNINGS: usize = 20;

/// Most headers of one server.
const MAX_HEADERS: usize = 64;

/// Reads a file's values. `of` is the host whose table a key is in; empty at the file's top.
pub(super) struct Reader<'a> {
    path: &'a Path,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, warnings: Vec::new() }
    }

    pub(super) fn refuse(&self, of: &str, key: &str, reason: &str) -> HostsError {
        let key = match (of, key) {
            ("", key) => key.to_owned(),
            (of, "") => format!("host.{}", quoted(of)),
            (of, key) => format!("host.{}.{key}", quoted(of)),
        };
        HostsError::Value { path: self.path.to_owned(), key, reason: reason.to_owned() }
    }

    pub(super) fn host(&mut self, name: &str, host: &Value) -> Result<Settings, HostsError> {
        let table = host.as_table().ok_or_else(|| self.refuse(name, "", "write a table"))?;
        if name.is_empty() {
            return Err(self.refuse("", "host", "a mirror has no URL"));
        }
        self.settings(name, Some(name), table)
    }

    pub(super) fn settings(
        &mut self,
        of: &str,
        server: Option<&str>,
        table: &Table,
    ) -> Result<Settings, HostsError> {
        let known = if of.is_empty() { &KEYS[..] } else { &KEYS[2..] };
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.warn(of, key, known);
        }
        let get = |key: &str| table.get(key);
        let flag = |key| get(key).map(|value| self.flag(of, key, value)).transpose();
        let whole_path = flag("override_path")?.unwrap_or(false);
        let parse = |server| {
            let key = if of.is_empty() { "server" } else { "" };
            Server::parse(server, whole_path).map_err(|reason| self.refuse(of, key, &reason))
        };
        let timeout = |value| {
            let text = self.text(of, "dial_timeout", value)?;
            let wrong = || "write a time above zero, such as \"500ms\", \"10s\" or \"1m30s\"";
            duration::parse(text).ok_or_else(|| self.refuse(of, "dial_timeout", wrong()))
        };
        let capabilities = get("capabilities").map(|value| self.capabilities(of, value));
        Ok(Settings {
            server: server.map(parse).transpose()?,
            capabilities: capabilities.transpose()?.unwrap_or(Capabilities::ALL),
            ca: get("ca").map_or(Ok(Vec::new()), |value| self.files(of, "ca", value))?,
            client: get("client").map_or(Ok(Vec::new()), |value| self.client(of, value))?,
            skip_verify: flag("skip_verify")?,
            headers: get("header").map_or(Ok(HeaderMap::new()), |value| self.headers(of, value))?,
            dial_timeout: get("dial_timeout").map(timeout).transpose()?,
        })
    }

    fn warn(&mut self, of: &str, key: &str, known: &[&str]) {
        if self.warnings.len() == MAX_WARNINGS {
            return;
        }
        let place = if of.is_empty() { String::new() } else { format!(" of host {}", quoted(of)) };
        self.warnings.push(format!(
            "{}: unknown key {}{place} is ignored, did you mean {:?}?",
            self.path.display(),
            quoted(key),
            nearest(known, key)
        ));
    }

    pub(super) fn text<'v>(
        &self,
        of: &str,
        key: &str,
        value: &'v Value,
    ) -> Result<&'v str, HostsError> {
        value.as_str().ok_or_else(|| self.refuse(of, key, "write a text"))
    }

    fn flag(&self, of: &str, key: &str, value: &Value) -> Result<bool, HostsError> {
        value.as_bool().ok_or_else(|| self.refuse(of, key, "write true or false"))
    }

    fn list<'v>(&self, of: &str, key: &str, value: &'v Value) -> Result<Vec<&'v str>, HostsError> {
        let texts = value.as_array().map(|list| list.iter().map(Value::as_str).collect());
        let one_or_more = value.as_str().map(|text| vec![text]).or_else(|| texts.flatten());
        one_or_more.ok_or_else(|| self.refuse(of, key, "write a text or a list of texts"))
    }

    fn capabilities(&self, of: &str, value: &Value) -> Result<Capabilities, HostsError> {
        let key = "capabilities";
        let list = value.as_array().is_some().then(|| self.list(of, key, value));
        let list = list.unwrap_or_else(|| Err(self.refuse(of, key, "write a list of texts")))?;
        if list.is_empty() {
            return Ok(Capabilities::ALL);
        }
        let lower: Vec<_> = list.iter().map(|word| word.to_ascii_lowercase()).collect();
        if let Some(word) = lower.iter().find(|word| !CAPABILITIES.contains(&word.as_str())) {
            let meant = nearest(&CAPABILITIES, word);
            let reason = format!("{} is unknown, did you mean {meant:?}?", quoted(word));
            return Err(self.refuse(of, key, &reason));
        }
        let has = |word: &str| lower.iter().any(|other| other == word);
        Ok(Capabilities {
            pull: has("pull"),
            resolve: has("resolve"),
            push: has("push"),
            referrers: has("referrers"),
        })
    }

    /// A file's path, which is relative to this file's folder.
    fn file(&self, of: &str, key: &str, path: &str) -> Result<PathBuf, HostsError> {
        if path.is_empty() || path.contains('\0') {
            return Err(self.refuse(of, key, "a file has no name"));
        }
        Ok(self.path.parent().unwrap_or(Path::new("/")).join(path))
    }

    fn files(&self, of: &str, key: &str, value: &Value) -> Result<Vec<PathBuf>, HostsError> {
        self.list(of, key, value)?.into_iter().map(|path| self.file(of, key, path)).collect()
    }

    fn client(&self, of: &str, value: &Value) -> Result<Vec<ClientCertificate>, HostsError> {
        let name = "client";
        let certificate = |value: &Value| {
            let parts = self.list(of, name, value)?;
            let (certificate, key) = match (value.is_str(), parts.as_slice()) {
                (true, [certificate]) | (false, [certificate, ""]) => (certificate, None),
                (false, [certificate, key]) => (certificate, Some(self.file(of, name, key)?)),
                _ => return Err(self.refuse(of, name, "write pairs: a certificate and its key")),
            };
            Ok(ClientCertificate { certificate: self.file(of, name, certificate)?, key })
        };
        match value.as_array() {
            Some(list) => list.iter().map(certificate).collect(),
            None => Ok(vec![certificate(value)?]),
        }
    }

    fn headers(&self, of: &str, value: &Value) -> Result<HeaderMap, HostsError> {
        let refuse = |reason: &str| self.refuse(of, "header", reason);
        let table = value.as_table().ok_or_else(|| refuse("write a table of names and texts"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in table {
            let shown = quoted(name);
            let invalid = || refuse(&format!("{shown} is no header's name"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            for text in self.list(of, "header", value)? {
                let unfit = || refuse(&format!("no header can have the value of {shown}"));
                let mut value = HeaderValue::from_str(text).map_err(|_| unfit())?;
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
            if headers.len() > MAX_HEADERS {
                return Err(refuse(&format!("at most {MAX_HEADERS} are possible")));
            }
        }
        Ok(headers)
    }
}
