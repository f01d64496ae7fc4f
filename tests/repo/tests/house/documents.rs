//! Documents and comments name only paths and make targets that exist.

use std::collections::BTreeSet;
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

/// Kubernetes' own words.
const CRI: &str = "runtime/protocol/proto/cri.proto";

/// Files of other projects that are named like ours.
const FOREIGN: [&str; 2] = ["docs/mounts.md", "docs/specs/pvpanic.rst"];

/// Text between single backquotes outside fenced blocks, and the lines of those.
fn quoted(text: &str) -> Vec<String> {
    let mut outside = true;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            outside = !outside;
        } else if outside {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        } else {
            found.push(line.to_owned());
        }
    }
    found
}

/// Words that are meant as paths of this repository: with a slash, and a folder of it first.
fn repository_paths(text: &str, folders: &BTreeSet<String>) -> Vec<String> {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let words = text.split(|other: char| !(letter(other) || "$~*{}<>:@".contains(other)));
    let words = words.map(|word| word.trim_start_matches("./").trim_end_matches(['.', '/', ':']));
    let ours = |word: &&str| {
        let (first, rest) = word.split_once('/').unwrap_or_default();
        word.chars().all(letter) && !rest.is_empty() && folders.contains(first)
    };
    words.filter(ours).filter(|word| !FOREIGN.contains(word)).map(str::to_owned).collect()
}

/// What a file says to people: all quotes of a document, all comments of a source or script.
fn prose(file: &Path) -> Vec<String> {
    let comment = match file.extension().and_then(|end| end.to_str()) {
        Some("md") => return quoted(&read(file)),
        Some("rs" | "proto") => "//",
        Some("sh" | "toml" | "config" | "yaml") => "#",
        _ => return Vec::new(),
    };
    let text = read(file);
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(comment));
    lines.map(str::to_owned).collect()
}

#[test]
fn paths_named_in_documents_and_comments_exist() {
    let root = root();
    let all = files();
    let folder = |file: &PathBuf| {
        let mut parts = file.components();
        let first = parts.next()?.as_os_str().to_str()?.to_owned();
        parts.next().map(|_| first)
    };
    let folders: BTreeSet<String> = all.iter().filter_map(folder).collect();
    let mut findings = Vec::new();
    let mut checked = 0;
    for file in all.iter().filter(|file| file.as_path() != Path::new(CRI)) {
        for path in prose(file).iter().flat_map(|text| repository_paths(text, &folders)) {
            checked += 1;
            if !root.join(&path).exists() {
                findings.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(checked > 50, "only {checked} paths found: is the search broken?");
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
    let mut checked = 0;
    for document in documents() {
        for text in quoted(&read(&document)) {
            let Some(target) = text.strip_prefix("make ").and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            checked += 1;
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                findings.push(format!("{}: {text}", document.display()));
            }
        }
    }
    assert!(checked > 5, "only {checked} targets found: is the search broken?");
    expect_none(&findings, "make targets that do not exist");
}
