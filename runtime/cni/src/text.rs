//! Text of plugins and of configuration files in errors. This module is pure.

/// Most bytes of one text of others in an error.
const MAX_TEXT: usize = 1024;

/// Most bytes of a name of others in an error.
const MAX_NAME: usize = 64;

/// The beginning of a text in one line that does nothing to a terminal.
pub(crate) fn printable(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    api::text::printable(&lines.collect::<Vec<_>>().join("; "), MAX_TEXT)
}

/// The same of a name.
pub(crate) fn quoted(name: &str) -> String {
    api::text::printable(name, MAX_NAME)
}

/// The same of what a program wrote.
pub(crate) fn said(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}
