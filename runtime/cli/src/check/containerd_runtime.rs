//! The entries of Cuddy's runtimes in containerd's configuration. Each must be spelled as
//! containerd reads it, possible in its version, and complete.
//!
//! containerd says nothing of a key that it does not know. Versions before 2.0 do not merge files:
//! only the last one that names the CRI plugin counts.

use std::path::Path;

use toml::{Table, Value};

use super::Check;
use super::Status;
use super::containerd_file::{File, RUNTIME_TYPE, cri_section, version};
use super::crio::SHIM;

const TOPIC: &str = "containerd-runtime";

/// runc's type. With Cuddy's shim as its path it is Cuddy's, which containerd 2.0 to 2.2 then asks
/// what it offers.
const RUNC: &str = "io.containerd.runc.v2";

/// From this version on, drop-ins are merged and sandboxes have controllers.
const TWO: Release = (2, 0);

/// Major and minor number of containerd.
type Release = (u32, u32);

/// Keys of a runtime, with the first version that knows each (0.0: all that Cuddy is made for)
/// and, for one that is gone, the first that does not.
const KEYS: [(&str, Release, Option<Release>); 18] = [
    ("runtime_type", (0, 0), None),
    ("runtime_path", (0, 0), None),
    ("runtime_engine", (0, 0), Some((2, 0))),
    ("runtime_root", (0, 0), Some((2, 0))),
    ("options", (0, 0), None),
    ("pod_annotations", (0, 0), None),
    ("container_annotations", (0, 0), None),
    ("privileged_without_host_devices", (0, 0), None),
    ("privileged_without_host_devices_all_devices_allowed", (1, 7), None),
    ("base_runtime_spec", (0, 0), None),
    ("cni_conf_dir", (0, 0), None),
    ("cni_max_conf_num", (0, 0), None),
    ("snapshotter", (1, 7), None),
    ("sandbox_mode", (1, 7), Some((2, 0))),
    ("sandboxer", (2, 0), None),
    ("io_type", (2, 0), None),
    ("cgroup_writable", (2, 1), None),
    ("disable_pause_image_pull", (2, 4), None),
];

/// Something that is not as it should be.
struct Finding {
    status: Status,
    found: String,
    action: String,
}

fn warning(found: impl Into<String>, action: impl Into<String>) -> Finding {
    Finding { status: Status::Warning, found: found.into(), action: action.into() }
}

fn failed(found: impl Into<String>, action: impl Into<String>) -> Finding {
    Finding { status: Status::Failed, ..warning(found, action) }
}

/// A runtime's entry and what it has to fit.
struct Entry<'a> {
    name: &'a str,
    table: &'a Table,
    release: Option<Release>,
}

/// Judges the entries of all files, in containerd's order of loading; none if no entry is
/// Cuddy's.
pub(super) fn check(files: &[File], release: Option<Release>) -> Option<Check> {
    let mut findings = Vec::new();
    let mut names = Vec::new();
    for file in files {
        for (name, table) in runtimes(&file.table).filter(|(name, table)| is_ours(name, table)) {
            findings.extend(judge(&Entry { name, table, release }));
            findings.extend(snapshotter_of_images(files, name, table, release));
            names.push(name.as_str());
        }
    }
    if names.is_empty() {
        return None;
    }
    findings.extend(replaced(files, release));
    Some(sum_up(&names, &findings))
}

fn sum_up(names: &[&str], findings: &[Finding]) -> Check {
    let join = |text: fn(&Finding) -> &str, between: &str| {
        findings.iter().map(text).collect::<Vec<_>>().join(between)
    };
    let found = join(|finding| &finding.found, "; ");
    let action = join(|finding| &finding.action, "\n");
    match findings.iter().find(|finding| finding.status == Status::Failed).or(findings.first()) {
        None => Check::ok(TOPIC, format!("{} as it should be", names.join(" and "))),
        Some(worst) if worst.status == Status::Failed => Check::failed(TOPIC, found, action),
        Some(_) => Check::warning(TOPIC, found, action),
    }
}

/// The CRI plugin's section for runtimes, of the file's own version.
fn section(table: &Table) -> Option<&Table> {
    let path = ["plugins", cri_section(version(table))];
    path.iter().try_fold(table, |table, key| table.get(*key)?.as_table())
}

fn runtimes(table: &Table) -> impl Iterator<Item = (&String, &Table)> {
    let all = section(table)
        .and_then(|section| section.get("containerd")?.as_table()?.get("runtimes")?.as_table());
    let all = all.into_iter().flatten();
    all.filter_map(|(name, runtime)| Some((name, runtime.as_table()?)))
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Value::as_str)
}

/// By its type, by the program that is executed, or by what its author must have meant.
fn is_ours(name: &str, table: &Table) -> bool {
    let kind = text(table, "runtime_type").unwrap_or_default();
    name.contains("cuddy") || kind.contains("cuddy") || has_our_path(table)
}

fn has_our_path(table: &Table) -> bool {
    text(table, "runtime_path").is_some_and(|path| Path::new(path).ends_with(SHIM))
}

fn judge(entry: &Entry<'_>) -> Vec<Finding> {
    let mut findings = keys(entry);
    let more = [runtime_type(entry), runtime_path(entry), devices(entry), sandboxer(entry)];
    findings.extend(more.into_iter().flatten());
    findings.extend(annotations(entry));
    findings
}

fn keys(entry: &Entry<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in entry.table.keys() {
        let known = KEYS.iter().find(|(name, ..)| name == key);
        let Some((_, since, until)) = known else {
            let near = KEYS.iter().max_by(|a, b| nearness(a.0, key).total_cmp(&nearness(b.0, key)));
            let near = near.map_or("runtime_type", |(name, ..)| name);
            findings.push(warning(
                format!("{}: containerd knows no key {key:?}", entry.name),
                format!("Did you mean {near:?}?"),
            ));
            continue;
        };
        let unknown = |release: Release| release < *since || until.is_some_and(|u| release >= u);
        if let Some((major, minor)) = entry.release.filter(|release| unknown(*release)) {
            findings.push(warning(
                format!("{}: containerd {major}.{minor} ignores {key:?}", entry.name),
                format!("Remove {key:?}, or use another version of containerd."),
            ));
        }
    }
    findings
}

fn nearness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

fn runtime_type(entry: &Entry<'_>) -> Option<Finding> {
    let kind = text(entry.table, "runtime_type");
    if kind == Some(RUNTIME_TYPE) || kind == Some(RUNC) && has_our_path(entry.table) {
        return None;
    }
    if kind == Some(RUNC) {
        let found = format!("{}: the type {RUNC} alone executes runc", entry.name);
        let action = format!(
            "Write `runtime_type = \"{RUNTIME_TYPE}\"`, or `runtime_path` with the whole path \
             of {SHIM}."
        );
        return Some(failed(found, action));
    }
    let kind = kind.unwrap_or("none");
    let found = format!("{}: the runtime type {kind} does not exist", entry.name);
    Some(failed(found, format!("Write `runtime_type = \"{RUNTIME_TYPE}\"`.")))
}

fn runtime_path(entry: &Entry<'_>) -> Option<Finding> {
    let path = text(entry.table, "runtime_path").filter(|path| !path.is_empty())?;
    if Path::new(path).is_file() {
        return None;
    }
    let found = format!("{}: there is no file {path}", entry.name);
    Some(failed(found, "Remove `runtime_path`, or name the shim's file."))
}

fn devices(entry: &Entry<'_>) -> Option<Finding> {
    const KEY: &str = "privileged_without_host_devices";
    let set = entry.table.get(KEY).and_then(Value::as_bool);
    (set != Some(true)).then(|| {
        let found = format!("{}: a privileged container asks for the node's devices", entry.name);
        warning(found, format!("Write `{KEY} = true`: a machine has devices of its own."))
    })
}

fn sandboxer(entry: &Entry<'_>) -> Option<Finding> {
    let name = entry.name;
    match (text(entry.table, "sandboxer")?, entry.release) {
        ("podsandbox", _) => None,
        ("shim", Some(TWO)) => Some(warning(
            format!(
                "{name}: containerd 2.0 forgets sandboxes of the controller \"shim\" when it restarts"
            ),
            "Write `sandboxer = \"podsandbox\"`, or use containerd 2.1 or later.",
        )),
        ("shim", _) => None,
        (other, _) => Some(failed(
            format!("{name}: there is no sandbox controller {other:?}"),
            "Write `sandboxer = \"podsandbox\"` or `sandboxer = \"shim\"`.",
        )),
    }
}

/// Both lists hold patterns of annotations' names.
fn annotations(entry: &Entry<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in ["pod_annotations", "container_annotations"] {
        let Some(value) = entry.table.get(key) else { continue };
        let patterns = value.as_array().into_iter().flatten().map(Value::as_str);
        let patterns: Option<Vec<_>> = patterns.collect();
        match patterns.filter(|_| value.is_array()) {
            None => findings.push(failed(
                format!("{}: {key} is not a list of texts", entry.name),
                format!("Write `{key} = [\"dev.cuddy.*\"]`."),
            )),
            Some(patterns) if patterns.contains(&"*") => findings.push(warning(
                format!("{}: {key} passes every annotation on", entry.name),
                format!("Write `{key} = [\"dev.cuddy.*\"]`."),
            )),
            Some(_) => {}
        }
    }
    findings
}

/// Before 2.3, images are unpacked for the snapshotter of another section.
fn snapshotter_of_images(
    files: &[File],
    name: &str,
    table: &Table,
    release: Option<Release>,
) -> Option<Finding> {
    let wanted = text(table, "snapshotter")?;
    if !release.is_some_and(|release| (TWO..(2, 3)).contains(&release)) {
        return None;
    }
    const SECTION: [&str; 3] = ["plugins", "io.containerd.cri.v1.images", "runtime_platforms"];
    let unpacked = files.iter().any(|file| {
        let platforms = SECTION.iter().try_fold(&file.table, |t, key| t.get(*key)?.as_table());
        let platform = platforms.and_then(|platforms| platforms.get(name)?.as_table());
        platform.and_then(|platform| text(platform, "snapshotter")) == Some(wanted)
    });
    (!unpacked).then(|| {
        warning(
            format!("{name}: images are not unpacked for its snapshotter {wanted:?}"),
            format!(
                "Add, for this version of containerd:\n\
                 [plugins.\"io.containerd.cri.v1.images\".runtime_platforms.{name}]\n  \
                 platform = \"linux/amd64\"\n  snapshotter = {wanted:?}"
            ),
        )
    })
}

/// What containerd 1.x loses, because it replaces sections and the list of runtimes.
fn replaced(files: &[File], release: Option<Release>) -> Vec<Finding> {
    if release.is_none_or(|release| release >= TWO) {
        return Vec::new();
    }
    let mut named = files.iter().filter(|file| section(&file.table).is_some());
    let Some(counts) = named.next_back() else { return Vec::new() };
    let mut findings = Vec::new();
    let lost: Vec<_> = named.map(|file| file.path.display().to_string()).collect();
    if !lost.is_empty() {
        let kept = counts.path.display();
        findings.push(warning(
            format!("{kept} replaces what {} says of the CRI plugin", lost.join(" and ")),
            "containerd 1.x does not merge files: put all of the CRI plugin into one.",
        ));
    }
    let default = section(&counts.table)
        .and_then(|section| text(section.get("containerd")?.as_table()?, "default_runtime_name"))
        .unwrap_or("runc");
    if !runtimes(&counts.table).any(|(name, _)| name == default) {
        findings.push(failed(
            format!("ordinary pods have no runtime: there is no entry {default:?}"),
            format!(
                "containerd 1.x drops its own entry when others are named; add to {}:\n\
                 [plugins.\"{}\".containerd.runtimes.runc]\n  \
                 runtime_type = \"io.containerd.runc.v2\"",
                counts.path.display(),
                cri_section(version(&counts.table))
            ),
        ));
    }
    if !runtimes(&counts.table).any(|(name, table)| is_ours(name, table)) {
        let kept = counts.path.display();
        findings.push(failed(
            format!("{kept} hides the runtime: containerd 1.x takes the CRI plugin from it alone"),
            format!("Move the runtime's section to {kept}."),
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
