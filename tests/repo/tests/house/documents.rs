//! Documents name only paths and make targets that exist.

use std::path::{Path, PathBuf};

use crate::tree::{expect_none, files, read, root};

fn documents() -> Vec<PathBuf> {
    let found: Vec<_> = files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "md"))
        .collect();
    assert!(found.contains(&PathBuf::from("README.md")), "README.md is missing");
    assert!(found.contains(&PathBuf::from("ARCHITECTURE.md")), "ARCHITECTURE.md is missing");
    found
}

/// Text between single backquotes outside fenced blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut outside = true;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            outside = !outside;
        } else if outside {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Whether a quoted text is meant as a path of this repository: its first part is one of the
/// top-level entries and it holds a slash or names a file there.
fn is_repository_path(text: &str, top: &[String]) -> bool {
    let plain =
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
    let first = text.split('/').next().unwrap_or_default();
    plain && text.contains('/') && top.iter().any(|entry| entry == first)
}

#[test]
fn paths_named_in_documents_exist() {
    let root = root();
    let tops = std::fs::read_dir(&root).unwrap();
    let top: Vec<String> =
        tops.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let mut findings = Vec::new();
    let mut checked = 0;
    for document in documents() {
        for path in quoted(&read(&document)).iter().filter(|text| is_repository_path(text, &top)) {
            checked += 1;
            if !root.join(path.trim_end_matches('/')).exists() {
                findings.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(checked > 10, "only {checked} paths found in the documents: is the search broken?");
    expect_none(&findings, "paths that do not exist");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = root();
    let mut findings = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = root.join(document.parent().unwrap_or(Path::new("")));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !folder.join(file).exists() {
                findings.push(format!("{}: {target}", document.display()));
            }
        }
    }
    expect_none(&findings, "links that lead nowhere");
}

#[test]
fn make_targets_named_in_documents_exist() {
    let makefile = read(Path::new("Makefile"));
    let mut findings = Vec::new();
    for document in documents() {
        for text in quoted(&read(&document)) {
            let Some(target) = text.strip_prefix("make ").and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                findings.push(format!("{}: {text}", document.display()));
            }
        }
    }
    expect_none(&findings, "make targets that do not exist");
}
