//! Documents can be read once: their sentences are short, and they rely on nothing that a reader
//! does not have.

use std::path::Path;

use crate::tree::{expect_none, files, read, root, rust_files};

/// Most words of a sentence in a document, and of one in a module's own documentation.
const MAX_WORDS: usize = 40;
const MAX_MODULE_WORDS: usize = 25;

/// Rows of the table in ARCHITECTURE.md that leads to what somebody wants to change.
const WAYS: usize = 15;

/// Paragraphs, list items, headings and cells of tables, without fenced blocks.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut fenced = false;
    for line in text.lines().map(str::trim) {
        let fence = line.starts_with("```");
        fenced ^= fence;
        if fence || fenced || line.is_empty() {
            blocks.push(String::new());
        } else if let Some(row) = line.strip_prefix('|') {
            blocks.extend(row.split('|').map(str::to_owned));
        } else {
            let number = line.trim_start_matches(|letter: char| letter.is_ascii_digit());
            let item =
                line.starts_with("- ") || number.len() < line.len() && number.starts_with(". ");
            if item || line.starts_with('#') {
                blocks.push(String::new());
            }
            let last = blocks.last_mut().unwrap();
            last.push(' ');
            last.push_str(line);
        }
        if line.starts_with('#') {
            blocks.push(String::new());
        }
    }
    blocks
}

/// The sentences of a block: a full stop, question or exclamation mark ends a word that ends one.
fn sentences(block: &str) -> Vec<Vec<&str>> {
    let mut sentences = vec![Vec::new()];
    for word in block.split_whitespace() {
        sentences.last_mut().unwrap().push(word);
        let bare = word.trim_end_matches([')', '*', '_', '"', '`']);
        if bare.ends_with(['.', '!', '?']) {
            sentences.push(Vec::new());
        }
    }
    sentences
}

/// What a Rust source says about its module, without the marks.
fn module_docs(source: &str) -> String {
    let docs = source.lines().filter_map(|line| line.trim().strip_prefix("//!"));
    docs.flat_map(|line| [line, "\n"]).collect()
}

/// The sentences of `text` that have more than `most` words, and how many sentences it has.
fn too_long(file: &Path, text: &str, most: usize) -> (Vec<String>, usize) {
    let blocks = blocks(text);
    let all: Vec<_> = blocks.iter().flat_map(|block| sentences(block)).collect();
    let long = all.iter().filter(|sentence| sentence.len() > most).map(|sentence| {
        let (words, start) = (sentence.len(), sentence[..6].join(" "));
        format!("{}: {words} words: {start} …", file.display())
    });
    (long.collect(), all.iter().filter(|sentence| !sentence.is_empty()).count())
}

#[test]
fn sentences_of_documents_have_at_most_40_words() {
    let mut findings = Vec::new();
    let mut checked = 0;
    let written = |file: &&Path| {
        let read_first = file.starts_with("docs") || file.components().count() == 1;
        read_first && file.extension().is_some_and(|end| end == "md")
    };
    for file in files().iter().map(AsRef::as_ref).filter(written) {
        let (long, count) = too_long(file, &read(file), MAX_WORDS);
        findings.extend(long);
        checked += count;
    }
    assert!(checked > 500, "only {checked} sentences found: is the search broken?");
    expect_none(&findings, "sentences that are too long");
}

#[test]
fn sentences_of_module_docs_have_at_most_25_words() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for file in rust_files() {
        let (long, count) = too_long(&file, &module_docs(&read(&file)), MAX_MODULE_WORDS);
        findings.extend(long);
        checked += count;
    }
    assert!(checked > 500, "only {checked} sentences found: is the search broken?");
    expect_none(&findings, "sentences of module docs that are too long");
}

#[test]
fn documents_and_comments_name_nothing_that_is_not_here() {
    let elsewhere = |words: &[&str]| {
        let numbered =
            words[1].trim_start_matches('#').starts_with(|letter: char| letter.is_ascii_digit());
        let own = words[0].trim_start_matches(['(', '`']).to_lowercase();
        (own == "issue" || own == "finding") && numbered
            || own == "design" && words[1].starts_with('§')
    };
    let mut findings = Vec::new();
    for file in files() {
        let (document, mark) = match file.extension().and_then(|end| end.to_str()) {
            Some("md") => (true, ""),
            Some("rs" | "proto") => (false, "//"),
            Some("sh" | "toml" | "config" | "yaml") => (false, "#"),
            _ => continue,
        };
        for line in read(&file).lines().map(str::trim) {
            let words: Vec<_> = line.split_whitespace().collect();
            if (document || line.starts_with(mark)) && words.windows(2).any(elsewhere) {
                findings.push(format!("{}: {line}", file.display()));
            }
        }
    }
    expect_none(&findings, "references to what a reader does not have");
}

#[test]
fn whoever_wants_to_change_something_is_led_to_it() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let table = text.split("| I want to change").nth(1).expect("the table of ways");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let mut findings = Vec::new();
    for row in &rows {
        let paths: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        if paths.is_empty() {
            findings.push(format!("no path: {row}"));
        }
        let missing = paths.into_iter().filter(|path| !root().join(path).exists());
        findings.extend(missing.map(|path| format!("{path} does not exist: {row}")));
    }
    expect_none(&findings, "ways that lead nowhere");
    assert_eq!(rows.len(), WAYS, "rows of the table of ways");
}

#[test]
fn sentences_end_where_a_reader_stops() {
    let text = "# A head\n\nOne. Two\nis *long.* Three\n- four\n1. five\n| six | seven |\n```\neight. nine\n```\n";
    let lengths: Vec<_> =
        blocks(text).iter().flat_map(|block| sentences(block)).map(|s| s.len()).collect();
    let lengths: Vec<_> = lengths.into_iter().filter(|length| *length > 0).collect();
    assert_eq!(lengths, [3, 1, 3, 1, 2, 1, 1, 1, 1]);
}

#[test]
fn long_sentence_of_a_module_is_found_and_nothing_else_is() {
    let words = |count: usize| vec!["word"; count].join(" ");
    let (most, more) = (words(MAX_MODULE_WORDS), words(MAX_MODULE_WORDS + 1));
    // The mark of an item counts as a word.
    let item = words(MAX_MODULE_WORDS - 1);
    let source = format!(
        "//! {most}. {more}\n//!\n//! - {item}\n//!   word\n//! - {item}\n//! | {most} | {most} |\n\
         //! ```text\n//! {more}\n//! ```\n\n/// {more}\nfn f() {{}} // {more}\n"
    );
    let (long, checked) = too_long(Path::new("f.rs"), &module_docs(&source), MAX_MODULE_WORDS);
    let expected = ["word word word word word word", "- word word word word word"];
    assert_eq!(long, expected.map(|start| format!("f.rs: 26 words: {start} …")));
    assert_eq!(checked, 6);
}
