//! A file of containerd's configuration, and where its CRI plugin's runtimes are in it.

use std::path::PathBuf;

use toml::{Table, Value};

/// What makes containerd execute Cuddy's shim.
pub(super) const RUNTIME_TYPE: &str = "io.containerd.cuddy.v2";
/// The CRI plugin in files of version 1.
pub(super) const CRI_V1: &str = "cri";
/// In files of version 2; also its name in `disabled_plugins` of every later version.
pub(super) const CRI_V2: &str = "io.containerd.grpc.v1.cri";
/// In files of version 3 and 4.
pub(super) const CRI_V3: &str = "io.containerd.cri.v1.runtime";

/// A configuration file that was read and parsed.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) table: Table,
}

/// A file without the key is of version 1.
pub(super) fn version(table: &Table) -> i64 {
    table.get("version").and_then(Value::as_integer).unwrap_or(1)
}

/// Name of the CRI plugin that keeps the runtimes in files of a version.
pub(super) fn cri_section(version: i64) -> &'static str {
    match version {
        ..=1 => CRI_V1,
        2 => CRI_V2,
        _ => CRI_V3,
    }
}
