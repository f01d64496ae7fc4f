//! Files, traits, error enums, services and the Makefile stay small.

use std::path::{Path, PathBuf};

use crate::tree::{expect_none, files, is_test_code, read, rust_files};

const MAX_FILE_LINES: usize = 400;
const MAX_INLINE_TEST_LINES: usize = 150;
const MAX_TRAIT_ITEMS: usize = 8;
const MAX_ERROR_VARIANTS: usize = 12;
const MAX_SERVICE_CALLS: usize = 8;
/// An interface of others, as they publish it.
const FOREIGN: &str = "runtime/protocol/proto/cri.proto";
const MAX_MAKEFILE_LINES: usize = 200;

/// Splits a source into production lines and the lines of a trailing `mod tests { … }`.
fn split_inline_tests(source: &str) -> (usize, usize) {
    let total = source.lines().count();
    let start = source.lines().position(|line| line == "mod tests {");
    start.map_or((total, 0), |line| (line, total - line))
}

#[test]
fn production_files_have_at_most_400_lines() {
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| !is_test_code(file)) {
        let (production, tests) = split_inline_tests(&read(file));
        if production > MAX_FILE_LINES {
            findings.push(format!("{}: {production} lines", file.display()));
        }
        if tests > MAX_INLINE_TEST_LINES {
            let name = file.display();
            findings.push(format!("{name}: {tests} lines of inline tests, move them to tests.rs"));
        }
    }
    expect_none(&findings, "files that are too long");
}

#[test]
fn traits_and_error_enums_are_small() {
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| !is_test_code(file)) {
        let source = syn::parse_file(&read(file))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for item in &source.items {
            findings.extend(item_too_large(item).map(|text| format!("{}: {text}", file.display())));
        }
    }
    expect_none(&findings, "items that are too large");
}

fn item_too_large(item: &syn::Item) -> Option<String> {
    match item {
        syn::Item::Trait(item) if item.items.len() > MAX_TRAIT_ITEMS => {
            Some(format!("trait {} has {} items", item.ident, item.items.len()))
        }
        syn::Item::Enum(item)
            if item.ident.to_string().ends_with("Error")
                && item.variants.len() > MAX_ERROR_VARIANTS =>
        {
            Some(format!("enum {} has {} variants", item.ident, item.variants.len()))
        }
        _ => None,
    }
}

#[test]
fn services_have_at_most_8_calls() {
    let mut findings = Vec::new();
    let ours = |file: &&PathBuf| {
        file.extension().is_some_and(|end| end == "proto") && *file != Path::new(FOREIGN)
    };
    for file in files().iter().filter(ours) {
        let text = read(file);
        let services = text.split("\nservice ").skip(1);
        for service in services {
            let body = service.split("\n}").next().unwrap_or_default();
            let calls = body.lines().filter(|line| line.trim_start().starts_with("rpc ")).count();
            assert!(calls > 0, "{}: a service without calls", file.display());
            if calls > MAX_SERVICE_CALLS {
                findings.push(format!("{}: a service with {calls} calls", file.display()));
            }
        }
    }
    expect_none(&findings, "services that are too large");
}

#[test]
fn makefile_only_calls_things() {
    let lines = read(Path::new("Makefile")).lines().count();
    assert!(lines <= MAX_MAKEFILE_LINES, "Makefile has {lines} lines");
}
