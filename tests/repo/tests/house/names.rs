//! Names say what a thing is.

use crate::tree::{expect_none, is_test_code, read, rust_files};

const EMPTY_WORDS: [&str; 8] =
    ["Manager", "Helper", "Util", "Utils", "Common", "Inner", "Base", "Handler"];

fn is_empty_name(name: &str) -> bool {
    EMPTY_WORDS.iter().any(|word| name.ends_with(word))
}

fn declared(item: &syn::Item) -> Option<&syn::Ident> {
    match item {
        syn::Item::Struct(item) => Some(&item.ident),
        syn::Item::Enum(item) => Some(&item.ident),
        syn::Item::Trait(item) => Some(&item.ident),
        syn::Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

#[test]
fn no_type_is_named_by_an_empty_word() {
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| !is_test_code(file)) {
        let source = syn::parse_file(&read(file)).unwrap();
        let names = source.items.iter().filter_map(declared).map(ToString::to_string);
        for name in names.filter(|name| is_empty_name(name)) {
            findings.push(format!("{}: {name}", file.display()));
        }
    }
    expect_none(&findings, "types named by an empty word");
}

#[test]
fn no_module_is_named_by_an_empty_word() {
    let words: Vec<_> = EMPTY_WORDS.iter().map(|word| word.to_lowercase()).collect();
    let findings: Vec<_> = rust_files()
        .iter()
        .filter(|file| {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            words.iter().any(|word| stem == *word || stem == format!("{word}s"))
        })
        .map(|file| file.display().to_string())
        .collect();
    expect_none(&findings, "modules named by an empty word");
}
