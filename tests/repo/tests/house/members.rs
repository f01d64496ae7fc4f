//! Every crate is on the map and has its tests run.

use std::path::{Path, PathBuf};

use crate::dependencies::workspace;
use crate::tree::{expect_none, read};

#[test]
fn every_crate_is_on_the_map() {
    let map = read(Path::new("ARCHITECTURE.md"));
    let missing = |folder: &String| {
        let named = |path: PathBuf| map.contains(&format!("`{}`", path.display()));
        !named(folder.into()) && !named(Path::new(folder).join("src"))
    };
    let manifests = workspace().into_iter().map(|(manifest, _, _)| PathBuf::from(manifest));
    let folders = manifests.map(|manifest| manifest.parent().unwrap().display().to_string());
    let findings: Vec<_> = folders.filter(missing).collect();
    expect_none(&findings, "crates that ARCHITECTURE.md does not name");
}

#[test]
fn every_crate_is_tested() {
    let script = read(Path::new("tests/run-tests.sh"));
    let packages = read(Path::new("tests/packages.sh"));
    let (_, list) = packages.split_once("\ncrates=(").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let listed: Vec<_> = list.split_whitespace().collect();
    let elsewhere = |name: &String| {
        let ends = |rest: &str| rest.starts_with(|after: char| !after.is_alphanumeric());
        let by = |command: &str| script.split(&format!("{command} {name}")).skip(1).any(ends);
        by("-p") || script.contains(&format!("tests/{name}/run.sh"))
    };
    let untested = |name: &String| !listed.contains(&name.as_str()) && !elsewhere(name);
    let findings: Vec<_> =
        workspace().into_iter().map(|(_, name, _)| name).filter(untested).collect();
    expect_none(&findings, "crates whose tests `make test` does not run");
}
