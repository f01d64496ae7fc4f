//! CRI-O's configuration: whether its entry for Cuddy is one that CRI-O accepts and that works.
//! Hosts without CRI-O hear nothing of it.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Check;

const TOPIC: &str = "cri-o";
pub(super) const SHIM: &str = "containerd-shim-cuddy-v2";
const MAIN: &str = "/etc/crio/crio.conf";
const DROP_INS: &str = "/etc/crio/crio.conf.d";

/// What to write, as a whole file.
const DROP_IN: &str = include_str!("../../../../deploy/crio/50-cuddy.conf");

pub(super) fn check() -> Option<Check> {
    let mut files = vec![PathBuf::from(MAIN)];
    let drop_ins = std::fs::read_dir(DROP_INS).into_iter().flatten().flatten();
    files.extend(drop_ins.map(|entry| entry.path()));
    files.retain(|file| file.is_file());
    files.sort();
    if files.is_empty() {
        return None;
    }
    let read = |file: &PathBuf| (file.clone(), std::fs::read_to_string(file).unwrap_or_default());
    Some(evaluate(&files.iter().map(read).collect::<Vec<_>>(), |path| path.is_file()))
}

/// Judges the last entry of the shim's; `exists` tells of files.
fn evaluate(files: &[(PathBuf, String)], exists: impl Fn(&Path) -> bool) -> Check {
    let mut last = None;
    for (path, text) in files {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let text: toml::de::Error = error;
                let text = text.to_string().trim().replace('\n', " ");
                let found = format!("{}: {text}", path.display());
                return Check::failed(TOPIC, found, "Correct the file; CRI-O refuses it too.");
            }
        };
        let entry = runtimes(&table).find(|(name, entry)| is_ours(name, entry));
        last = entry.map(|(name, entry)| judge(path, name, entry, &exists)).or(last);
    }
    last.unwrap_or_else(|| {
        let action =
            format!("Write {DROP_INS}/50-cuddy.conf, then restart CRI-O:\n{}", DROP_IN.trim_end());
        Check::warning(TOPIC, "CRI-O has no runtime of Cuddy's", action)
    })
}

fn runtimes(table: &Table) -> impl Iterator<Item = (&String, &Table)> {
    let path = ["crio", "runtime", "runtimes"];
    let all = path.iter().try_fold(table, |table, key| table.get(*key)?.as_table());
    all.into_iter().flatten().filter_map(|(name, entry)| Some((name, entry.as_table()?)))
}

fn text<'a>(entry: &'a Table, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_ours(name: &str, entry: &Table) -> bool {
    name.contains("cuddy") || text(entry, "runtime_path").contains("cuddy")
}

fn judge(file: &Path, name: &str, entry: &Table, exists: impl Fn(&Path) -> bool) -> Check {
    let path = text(entry, "runtime_path");
    let kind = text(entry, "runtime_type");
    if kind != "vm" {
        let found = format!("{name}: the runtime type {kind:?} is not that of a shim");
        return Check::failed(TOPIC, found, "Write `runtime_type = \"vm\"`.");
    }
    if Path::new(path).file_name().is_none_or(|base| base != SHIM) || !exists(Path::new(path)) {
        let found = format!("{name}: {path:?} is not the shim");
        let action = format!("Write `runtime_path` with the whole path of {SHIM}.");
        return Check::failed(TOPIC, found, action);
    }
    if entry.get("privileged_without_host_devices").and_then(Value::as_bool) != Some(true) {
        let found = format!("{name}: a privileged container asks for the node's devices");
        return Check::warning(TOPIC, found, "Write `privileged_without_host_devices = true`.");
    }
    Check::ok(TOPIC, format!("runtime {name:?} in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn of(text: &str) -> Check {
        evaluate(&[(PathBuf::from("50-cuddy.conf"), text.to_owned())], |_| true)
    }

    #[test]
    fn the_drop_in_is_as_it_should_be() {
        assert_eq!(of(DROP_IN), Check::ok(TOPIC, "runtime \"cuddy\" in 50-cuddy.conf"));
    }

    #[test]
    fn what_cri_o_would_refuse_or_misuse_is_found() {
        let changed = |from: &str, to: &str| {
            assert!(DROP_IN.contains(from));
            of(&DROP_IN.replace(from, to))
        };
        assert_eq!(changed("\"vm\"", "\"oci\"").status, Status::Failed);
        assert_eq!(changed("cuddy-v2\"", "cuddy\"").status, Status::Failed);
        assert_eq!(changed("devices = true", "devices = false").status, Status::Warning);
        assert_eq!(of("[crio").status, Status::Failed);
        let gone = evaluate(&[("a".into(), DROP_IN.to_owned())], |_| false);
        assert!(gone.found.contains("is not the shim"), "{gone:?}");
    }

    #[test]
    fn who_has_no_entry_is_told_what_to_write() {
        let check = of("[crio.runtime]\n");
        assert_eq!(check.status, Status::Warning);
        assert!(check.action.unwrap().contains("runtime_type = \"vm\""));
    }
}
