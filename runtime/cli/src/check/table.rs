//! The report as a page of text.

use std::fmt::Write as _;

use super::report::Report;
use super::{Check, Status};

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
/// Columns of the status word.
const STATUS_WIDTH: usize = 9;
/// Columns of a page; longer words (paths) may stand out.
const PAGE_WIDTH: usize = 100;

/// Writes the page: a line per finding, what to do below it, and the summary.
pub(crate) fn render(report: &Report, colours: bool) -> String {
    let width = report.checks.iter().map(|check| check.topic.len()).max().unwrap_or(0);
    let mut page = String::new();
    for check in &report.checks {
        line(&mut page, check, width, colours);
    }
    page.push('\n');
    if colours {
        page.push_str(BOLD);
    }
    page.push_str(&report.summary);
    if colours {
        page.push_str(RESET);
    }
    page.push('\n');
    page
}

fn line(page: &mut String, check: &Check, width: usize, colours: bool) {
    let (word, colour) = match check.status {
        Status::Ok => ("ok", "\x1b[32m"),
        Status::Warning => ("warning", "\x1b[33m"),
        Status::Failed => ("failed", "\x1b[31m"),
    };
    let (on, off) = if colours { (colour, RESET) } else { ("", "") };
    // Topics are short words of this program, so the indent is far below the page's width.
    let indent = width + 2 + STATUS_WIDTH;
    // Writing to a string can't fail.
    let mut lead = format!("{:width$}  {on}{word:STATUS_WIDTH$}{off}", check.topic);
    for text in wrap(&printable(&check.found), PAGE_WIDTH - indent) {
        let _ = writeln!(page, "{lead}{text}");
        lead = " ".repeat(indent);
    }
    let mut lead = " ".repeat(indent);
    let mut prefix = "what to do: ";
    for text in check.action.iter().flat_map(|action| action.lines()) {
        for part in wrap(&format!("{prefix}{}", printable(text)), PAGE_WIDTH - indent - 2) {
            let _ = writeln!(page, "{lead}{part}");
            lead = " ".repeat(indent + 2);
        }
        prefix = "";
    }
}

/// Breaks a line between words so that it fits; a single word is never broken, and the spaces
/// that it starts with stay (snippets are indented).
fn wrap(text: &str, width: usize) -> Vec<String> {
    let words = text.trim_start();
    let mut lines = vec![" ".repeat(text.len() - words.len())];
    let mut used = 0;
    for word in words.split(' ') {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used == 0 || used + 1 + length <= width => {
                if used > 0 {
                    line.push(' ');
                    used += 1;
                }
                line.push_str(word);
                used += length;
            }
            _ => {
                lines.push(word.to_owned());
                used = length;
            }
        }
    }
    lines
}

/// Text of files and programs may hold anything; a terminal gets no control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let checks = vec![
            Check::ok("tun", "/dev/net/tun"),
            Check::warning("containerd", "odd\x1b[0m", "Add:\n[a]"),
        ];
        Report::new(checks, None)
    }

    #[test]
    fn columns_are_aligned_and_actions_indented() {
        let page = render(&report(), false);
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[0], "tun         ok       /dev/net/tun");
        assert_eq!(lines[1], "containerd  warning  odd?[0m");
        assert_eq!(lines[2], "                     what to do: Add:");
        assert_eq!(lines[3], "                       [a]");
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn long_lines_break_between_words_and_snippets_keep_their_indent() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aa /long/path cc", 5), ["aa", "/long/path", "cc"]);
        assert_eq!(wrap("  key = 1", 20), ["  key = 1"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let page = render(&report(), true);
        let mut plain = page.clone();
        for code in [RESET, BOLD, "\x1b[32m", "\x1b[33m", "\x1b[31m"] {
            plain = plain.replace(code, "");
        }
        assert_ne!(page, plain);
        assert_eq!(plain, render(&report(), false));
    }
}
