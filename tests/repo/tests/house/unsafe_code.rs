//! Unsafe code lives only in the modules listed in `unsafe.txt`, and seccomp rules say why.

use std::path::Path;

use crate::tree::{expect_none, files, read, rust_files};

const LIST: &str = "tests/repo/unsafe.txt";

/// Paths in `unsafe.txt`: one per line, followed by what the unsafe code is for.
fn listed() -> Vec<String> {
    let text = read(Path::new(LIST));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (path, reason) = line.split_once(' ').unwrap_or((line, ""));
            assert!(reason.trim().len() > 10, "{LIST}: {path} has no reason");
            path.to_owned()
        })
        .collect()
}

#[test]
fn unsafe_only_where_listed() {
    let listed = listed();
    let mut findings = Vec::new();
    let mut opted_in = Vec::new();
    for file in rust_files() {
        let name = file.display().to_string();
        let text = read(&file);
        if text.contains(concat!("allow(", "unsafe_code")) {
            opted_in.push(name.clone());
            if !listed.contains(&name) {
                findings.push(format!("{name} allows unsafe code and is not in {LIST}"));
            }
        }
    }
    let stale = listed.iter().filter(|path| !opted_in.contains(path));
    findings.extend(stale.map(|path| format!("{LIST} lists {path}, which has no unsafe code")));
    expect_none(&findings, "unsafe code");
}

#[test]
fn every_crate_inherits_the_lints() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.ends_with("Cargo.toml")) {
        let text = read(file);
        if text.contains("[package]") && !text.contains("[lints]\nworkspace = true") {
            findings.push(file.display().to_string());
        }
    }
    expect_none(&findings, "crates outside the lint table");
}
