//! A network's configuration: an ordered list of plugins. This module is pure; `directory` reads
//! the files. The rules are those of the specification (section 1) and of libcni.

mod directory;
mod fields;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::text::quoted;
use crate::version::Version;

pub(crate) use directory::{Candidate, candidates};
use fields::Fields;

/// Most plugins of a network. Chains of today have up to six.
const MAX_PLUGINS: usize = 64;

/// Most bytes of a network's or plugin's name: each becomes a file's.
const MAX_NAME: usize = 255;

/// A network: what plugins run in which order, and what each is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Conf {
    path: PathBuf,
    name: String,
    version: Version,
    disable_check: bool,
    disable_gc: bool,
    plugins: Vec<PluginConf>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PluginConf {
    /// Its program's name, without a slash.
    pub(crate) kind: String,
    /// What of the runtime's knowledge it wants to be told.
    pub(crate) capabilities: BTreeSet<String>,
    /// The whole of it, as it was written.
    body: Map<String, Value>,
}

/// What a plugin is told beside its own configuration.
#[derive(Debug, Default)]
pub(crate) struct Told<'a> {
    pub(crate) capabilities: Option<&'a Map<String, Value>>,
    pub(crate) previous: Option<&'a Map<String, Value>>,
    pub(crate) attachments: Option<Value>,
}

/// A list whose plugins may be in files beside it.
#[derive(Debug)]
pub(crate) struct List {
    conf: Conf,
    inlined_only: bool,
}

impl List {
    /// The network's name, which the directory of its other plugins has too; none if all are here.
    pub(crate) fn folder(&self) -> Option<&str> {
        (!self.inlined_only).then_some(self.conf.name.as_str())
    }

    /// The network with the plugins of its directory behind its own.
    pub(crate) fn with(mut self, others: Vec<PluginConf>) -> Result<Conf, Error> {
        self.conf.plugins.extend(others);
        let problem = match self.conf.plugins.len() {
            0 => "there are none, and none in the directory with the network's name".to_owned(),
            count if count > MAX_PLUGINS => format!("there are {count}, more than {MAX_PLUGINS}"),
            _ => return Ok(self.conf),
        };
        Err(Error::conf(&self.conf.path, "plugins", problem))
    }
}

impl Conf {
    /// Reads a list of plugins, as files with the ending `.conflist` hold it.
    pub(crate) fn parse_list(bytes: &[u8], path: &Path) -> Result<List, Error> {
        let fields = Fields::parse(bytes, path)?;
        let name = network_name(&fields)?;
        let version = version(&fields)?;
        let inlined_only = fields.flag("loadOnlyInlinedPlugins")?;
        let plugins = match fields.list("plugins")? {
            None if inlined_only => {
                let problem = "there are none, and loadOnlyInlinedPlugins forbids others";
                return Err(fields.error("plugins", problem));
            }
            None => Vec::new(),
            Some([]) => return Err(fields.error("plugins", "the list is empty")),
            Some(plugins) => inlined(plugins, &fields)?,
        };
        let (disable_check, disable_gc) = (fields.flag("disableCheck")?, fields.flag("disableGC")?);
        let path = path.to_owned();
        let conf = Self { path, name, version, disable_check, disable_gc, plugins };
        Ok(List { conf, inlined_only })
    }

    /// Reads a network of one plugin, as files with the endings `.conf` and `.json` hold it.
    pub(crate) fn parse_single(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let fields = Fields::parse(bytes, path)?;
        if fields.list("plugins").is_ok_and(|list| list.is_some()) {
            let problem = "a list of plugins belongs into a file with the ending .conflist";
            return Err(fields.error("plugins", problem));
        }
        let (name, version) = (network_name(&fields)?, version(&fields)?);
        let plugins = vec![PluginConf::read(&fields)?];
        let path = path.to_owned();
        Ok(Self { path, name, version, disable_check: false, disable_gc: false, plugins })
    }

    /// The file that it comes from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of the specification that its plugins are spoken to in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its plugins' names, in the order of ADD.
    pub fn plugin_names(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(|plugin| plugin.kind.as_str())
    }

    /// Whether plugins are asked by CHECK.
    pub(crate) fn has_check(&self) -> bool {
        !self.disable_check
    }

    /// Whether plugins are told by GC what is still attached.
    pub(crate) fn has_gc(&self) -> bool {
        self.version >= Version::STATUS && !self.disable_gc
    }

    pub(crate) fn plugins(&self) -> &[PluginConf] {
        &self.plugins
    }

    /// It as one list that needs no other file: [`Conf::parse_list`] reads it again.
    pub(crate) fn to_json(&self) -> String {
        let plugins: Vec<_> = self.plugins.iter().map(|plugin| &plugin.body).collect();
        json!({
            "cniVersion": self.version.to_string(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        })
        .to_string()
    }

    /// What a plugin of it reads from its standard input (specification, section 4, "Deriving
    /// execution configuration from plugin configuration").
    pub(crate) fn input(&self, plugin: &PluginConf, told: &Told<'_>) -> Vec<u8> {
        let mut body = plugin.body.clone();
        body.retain(|key, _| !is_reserved(key));
        body.insert("name".to_owned(), self.name.clone().into());
        body.insert("cniVersion".to_owned(), self.version.to_string().into());
        let wanted = |known: &&Map<String, Value>| -> Map<String, Value> {
            let wants = |(name, _): &(&String, &Value)| plugin.capabilities.contains(*name);
            known.iter().filter(wants).map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let runtime = told.capabilities.as_ref().map(wanted).filter(|map| !map.is_empty());
        let runtime = runtime.map(|map| ("runtimeConfig", map.into()));
        let previous = told.previous.map(|result| ("prevResult", result.clone().into()));
        let attachments = told.attachments.clone();
        let attachments = attachments.map(|list| ("cni.dev/valid-attachments", list));
        let more = [runtime, previous, attachments].into_iter().flatten();
        body.extend(more.map(|(key, value)| (key.to_owned(), value)));
        Value::Object(body).to_string().into_bytes()
    }
}

/// Keys of the protocol, which no file decides on. `args` is one too, and passed on by libcni.
fn is_reserved(key: &str) -> bool {
    matches!(key, "capabilities" | "runtimeConfig" | "prevResult") || key.starts_with("cni.dev/")
}

impl PluginConf {
    /// Reads one plugin, as each file in the directory of a network holds it.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        Self::read(&Fields::parse(bytes, path)?)
    }

    fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let kind = match fields.text("type")? {
            None | Some("") => return Err(fields.error("type", "there is no plugin's name")),
            Some(kind) => kind,
        };
        if kind.contains('/') || kind == "." || kind == ".." || kind.len() > MAX_NAME {
            return Err(fields.error("type", format!("{} is no plugin's name", quoted(kind))));
        }
        if kind.contains(char::is_control) {
            return Err(fields.error("type", "there are control characters in it"));
        }
        let capabilities = fields.flags("capabilities")?;
        Ok(Self { kind: kind.to_owned(), capabilities, body: fields.map().clone() })
    }
}

fn inlined(plugins: &[Value], list: &Fields<'_>) -> Result<Vec<PluginConf>, Error> {
    if plugins.len() > MAX_PLUGINS {
        let problem = format!("there are {}, more than {MAX_PLUGINS}", plugins.len());
        return Err(list.error("plugins", problem));
    }
    let read = |(index, plugin): (usize, &Value)| {
        PluginConf::read(&list.nested(plugin, format!("plugins[{index}]"))?)
    };
    plugins.iter().enumerate().map(read).collect()
}

/// Whether plugins may make a file of this name: what the specification allows.
pub(crate) fn is_name(name: &str) -> bool {
    let usual = |letter: u8| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter);
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(usual)
}

fn network_name(fields: &Fields<'_>) -> Result<String, Error> {
    match fields.text("name")? {
        Some(name) if is_name(name) => Ok(name.to_owned()),
        None | Some("") => Err(fields.error("name", "the network has none")),
        Some(name) => {
            let problem = format!("{} is not of letters, digits, '_', '.' and '-'", quoted(name));
            Err(fields.error("name", problem))
        }
    }
}

/// The newest of all that are named and that this crate speaks.
fn version(fields: &Fields<'_>) -> Result<Version, Error> {
    let read = |field: &str, text: &str| {
        let problem = |error| fields.error(field, format!("{}: {error}", quoted(text)));
        text.parse::<Version>().map_err(problem)
    };
    let single = fields.text("cniVersion")?;
    let mut all = Vec::new();
    for (index, item) in fields.list("cniVersions")?.unwrap_or_default().iter().enumerate() {
        let field = format!("cniVersions[{index}]");
        let text = item.as_str().ok_or_else(|| fields.error(&field, "it is no text"))?;
        all.push(read(&field, text)?);
    }
    let several = !all.is_empty();
    if single.is_some() || !several {
        all.push(read("cniVersion", single.unwrap_or_default())?);
    }
    let known = all.iter().copied().filter(|version| version.is_known()).max();
    known.ok_or_else(|| {
        let field = if several { "cniVersions" } else { "cniVersion" };
        let names: Vec<_> = all.iter().take(4).map(ToString::to_string).collect();
        let range = format!("{} to {}", Version::OLDEST, Version::NEWEST);
        fields.error(field, format!("{} is not among {range}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests;
