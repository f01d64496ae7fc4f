//! The folders of `hosts.toml` files and certificates.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{HostsFile, Settings};
use super::{ClientCertificate, Endpoint, Endpoints, HostsError, MAX_FILE_BYTES, Purpose};
use crate::reference::{Object, Reference};

const FILE: &str = "hosts.toml";
const ANY_REGISTRY: &str = "_default";

/// The configured paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    roots: Vec<PathBuf>,
}

impl Hosts {
    /// Takes paths with colons between them, as containerd's `config_path`. Empty: no registry is
    /// configured.
    pub fn new(config_path: &str) -> Self {
        let roots = config_path.split(':').filter(|path| !path.is_empty());
        Self { roots: roots.map(PathBuf::from).collect() }
    }

    /// The servers to ask for a reference's image, at least one. Reads a few small files.
    ///
    /// A tag can only be resolved by a server that is trusted with that. Where the reference has a
    /// digest there is nothing to resolve, and every server that may be pulled from will do.
    ///
    /// # Errors
    /// [`HostsError`] if the configuration can't be read, or allows no server.
    pub fn endpoints(
        &self,
        reference: &Reference,
        purpose: Purpose,
    ) -> Result<Endpoints, HostsError> {
        let registry = reference.domain();
        let Some(folder) = self.folder(registry)? else {
            let list = HostsFile::of_nothing().endpoints(registry);
            return Ok(Endpoints { list, warnings: Vec::new() });
        };
        let file = load(&folder)?;
        let tag = matches!(reference.object(), Object::Tag(_));
        let resolve = purpose == Purpose::Resolve && tag;
        let may = |endpoint: &Endpoint| {
            endpoint.capabilities.pull && (!resolve || endpoint.capabilities.resolve)
        };
        let warnings = file.warnings.clone();
        let list: Vec<_> = file.endpoints(registry).into_iter().filter(may).collect();
        if list.is_empty() {
            let purpose = if resolve { "resolve" } else { "pull" };
            let (path, registry) = (folder.join(FILE), registry.to_owned());
            return Err(HostsError::NoServer { path, purpose, registry });
        }
        Ok(Endpoints { list, warnings })
    }

    /// The first folder for the registry that exists.
    fn folder(&self, registry: &str) -> Result<Option<PathBuf>, HostsError> {
        let paths = self.roots.iter().flat_map(|root| names(registry).map(|name| root.join(name)));
        for path in paths {
            match std::fs::metadata(&path) {
                Ok(_) => return Ok(Some(path)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(HostsError::Read { path, source }),
            }
        }
        Ok(None)
    }
}

/// The names that a registry's folder may have, in containerd's order.
fn names(registry: &str) -> impl Iterator<Item = String> {
    let with_port = registry.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let portable = with_port.map(|(host, port)| format!("{host}_{port}_"));
    portable.into_iter().chain([registry.to_owned(), ANY_REGISTRY.to_owned()])
}

fn load(folder: &Path) -> Result<HostsFile, HostsError> {
    let path = folder.join(FILE);
    let failed = |source| HostsError::Read { path: path.clone(), source };
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(source) => return Err(failed(source)),
    };
    if text.len() as u64 > MAX_FILE_BYTES {
        let large = format!("more than {MAX_FILE_BYTES} bytes");
        return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, large)));
    }
    if text.is_empty() { certificates(folder) } else { HostsFile::parse(&text, &path) }
}

/// The folder of a registry as Docker lays it out: `*.crt` are authorities, `*.cert` the client's
/// certificates, and `*.key` of the same name their keys.
fn certificates(folder: &Path) -> Result<HostsFile, HostsError> {
    let failed = |source| HostsError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    let of_kind = |kind: &str| {
        let same = move |path: &&PathBuf| path.extension().is_some_and(|end| end == kind);
        files.iter().filter(same).cloned().collect::<Vec<_>>()
    };
    let keys = of_kind("key");
    let client = of_kind("cert").into_iter().map(|certificate| {
        let key = Some(certificate.with_extension("key")).filter(|key| keys.contains(key));
        ClientCertificate { certificate, key }
    });
    let settings =
        Settings { ca: of_kind("crt"), client: client.collect(), ..Settings::of_nothing() };
    Ok(HostsFile { servers: vec![settings], warnings: Vec::new() })
}
