//! containerd's configuration: whether its CRI plugin knows a runtime of Cuddy's type.
//!
//! `ctr run --runtime` works without; Kubernetes does not. Configuration files import others by
//! `imports`, which may be patterns and are relative to the importing file. A file may be of
//! version 1 to 4. It keeps the CRI plugin's runtimes in a section that depends on the version.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Check;
use super::containerd::release;
use super::containerd_file::{CRI_V1, CRI_V2, CRI_V3, File, RUNTIME_TYPE, cri_section, version};
use super::containerd_process::Containerd;
use super::containerd_runtime;

const TOPIC: &str = "containerd-config";
const DEFAULT: &str = "/etc/containerd/config.toml";
/// Files read at most, against imports that never end.
const MAX_FILES: usize = 256;

pub(super) fn check(containerd: &Containerd, chosen: Option<&Path>) -> Vec<Check> {
    let root = chosen.or(containerd.config.as_deref()).unwrap_or(Path::new(DEFAULT));
    let release = containerd.version.as_deref().and_then(release);
    match load(root) {
        Ok(files) => {
            let mut checks = vec![evaluate(root, &files, release)];
            checks.extend(containerd_runtime::check(&files, release));
            checks
        }
        Err(problem) => {
            vec![Check::failed(TOPIC, problem, "Correct the file; containerd refuses it too.")]
        }
    }
}

/// Reads the file and all that it imports, in containerd's order. A missing root is empty.
fn load(root: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    if !root.exists() {
        return Ok(files);
    }
    let mut seen = BTreeSet::new();
    let mut pending = VecDeque::from([root.to_owned()]);
    while let Some(path) = pending.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_FILES {
            return Err(format!("more than {MAX_FILES} files are imported"));
        }
        let problem = |e: &dyn std::fmt::Display| {
            format!("{}: {}", path.display(), e.to_string().trim().replace('\n', " "))
        };
        let text = std::fs::read_to_string(&path).map_err(|e| problem(&e))?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| problem(&e))?;
        pending.extend(imports(&path, &table));
        files.push(File { path, table });
    }
    Ok(files)
}

/// The files that a file imports.
fn imports(importer: &Path, table: &Table) -> Vec<PathBuf> {
    let directory = importer.parent().unwrap_or(Path::new("/"));
    let patterns = table.get("imports").and_then(Value::as_array).into_iter().flatten();
    let absolute = patterns.filter_map(Value::as_str).map(|pattern| directory.join(pattern));
    absolute.flat_map(|pattern| expand(&pattern)).collect()
}

/// The files of a pattern; a path without `*` stands for itself, as in containerd.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let text = pattern.to_string_lossy();
    match glob::glob(&text) {
        Ok(matches) if text.contains('*') => matches.flatten().collect(),
        _ => vec![pattern.to_owned()],
    }
}

fn evaluate(root: &Path, files: &[File], release: Option<(u32, u32)>) -> Check {
    let version =
        files.first().map_or_else(|| default_version(release), |root| version(&root.table));
    if let Some(newer) = files.iter().find(|file| self::version(&file.table) > version) {
        return Check::failed(
            TOPIC,
            format!("{} has a higher version than {}", newer.path.display(), root.display()),
            format!("Write it for `version = {version}`, else containerd does not start."),
        );
    }
    if let Some(file) = files.iter().find(|file| cri_disabled(&file.table)) {
        return Check::warning(
            TOPIC,
            format!("{} disables the CRI plugin, so Kubernetes can't use it", file.path.display()),
            "Remove the CRI plugin from `disabled_plugins`, and restart containerd.",
        );
    }
    let found = files.iter().find_map(|file| {
        let name = runtime(&file.table, cri_section(self::version(&file.table)))?;
        Some((name, &file.path))
    });
    if let Some((name, path)) = found {
        return Check::ok(TOPIC, format!("runtime {name:?} in {}", path.display()));
    }
    let place = place(root, files);
    let alone = version <= 2 && !files.iter().any(|file| has_runtimes(&file.table));
    let mut snippet = snippet(version, &place, root);
    if alone {
        snippet += &runc_too(version);
    }
    if let Some(file) = files.iter().find(|file| in_other_section(&file.table)) {
        return Check::warning(
            TOPIC,
            format!(
                "{} has the runtime in a section that its version ignores",
                file.path.display()
            ),
            format!("Move it to the section of version {version}:\n{snippet}"),
        );
    }
    let what = if files.is_empty() { "does not exist" } else { "has no runtime of type" };
    let suffix = if files.is_empty() { "" } else { " io.containerd.cuddy.v2" };
    Check::warning(
        TOPIC,
        format!("{} {what}{suffix}: Kubernetes can't use Cuddy, `ctr` can", root.display()),
        snippet,
    )
}

/// The version that containerd writes by default, which is the newest that it knows. Of an unknown
/// containerd it is that of 2.0, which all later ones read.
fn default_version(release: Option<(u32, u32)>) -> i64 {
    match release {
        Some(release) if release < (2, 0) => 2,
        Some(release) if release >= (2, 3) => 4,
        _ => 3,
    }
}

/// Name of the first runtime in a plugin's section that is Cuddy, by its type or its shim's path.
fn runtime(table: &Table, section: &str) -> Option<String> {
    let runtimes = ["plugins", section, "containerd", "runtimes"]
        .iter()
        .try_fold(table, |table, key| table.get(*key)?.as_table())?;
    runtimes.iter().find_map(|(name, runtime)| {
        let text = |key: &str| runtime.get(key).and_then(Value::as_str).unwrap_or_default();
        let own = text("runtime_type") == RUNTIME_TYPE
            || Path::new(text("runtime_path")).ends_with(super::crio::SHIM);
        own.then(|| name.clone())
    })
}

fn in_other_section(table: &Table) -> bool {
    [CRI_V1, CRI_V2, CRI_V3].iter().any(|section| runtime(table, section).is_some())
}

fn cri_disabled(table: &Table) -> bool {
    let disabled = table.get("disabled_plugins").and_then(Value::as_array).into_iter().flatten();
    disabled.filter_map(Value::as_str).any(|name| [CRI_V1, CRI_V2, CRI_V3].contains(&name))
}

/// The file to write to: a drop-in where the root file imports a directory's files, else the
/// root file itself.
fn place(root: &Path, files: &[File]) -> PathBuf {
    let Some(first) = files.first() else {
        return root.to_owned();
    };
    let directory = root.parent().unwrap_or(Path::new("/"));
    let patterns = first.table.get("imports").and_then(Value::as_array).into_iter().flatten();
    let drop_in = patterns
        .filter_map(Value::as_str)
        .find_map(|pattern| pattern.strip_suffix("/*.toml"))
        .filter(|directory| !directory.contains('*'));
    drop_in.map_or_else(|| root.to_owned(), |d| directory.join(d).join("cuddy.toml"))
}

/// What to add, and where, for a root file of that version.
fn snippet(version: i64, place: &Path, root: &Path) -> String {
    let whole_file = place != root || !root.exists();
    let head = if whole_file { format!("version = {version}\n") } else { String::new() };
    let verb = if whole_file { "Write" } else { "Add to" };
    let section = cri_section(version);
    format!(
        "{verb} {}, then restart containerd:\n{head}\
         [plugins.\"{section}\".containerd.runtimes.cuddy]\n  \
         runtime_type = \"{RUNTIME_TYPE}\"\n  \
         privileged_without_host_devices = true",
        place.display()
    )
}

fn has_runtimes(table: &Table) -> bool {
    ["plugins", cri_section(version(table)), "containerd", "runtimes"]
        .iter()
        .try_fold(table, |table, key| table.get(*key)?.as_table())
        .is_some()
}

/// containerd 1.x drops its own entry for ordinary pods as soon as another one is named.
fn runc_too(version: i64) -> String {
    format!(
        "\n[plugins.\"{}\".containerd.runtimes.runc]\n  \
         runtime_type = \"io.containerd.runc.v2\"",
        cri_section(version)
    )
}

#[cfg(test)]
mod tests;
