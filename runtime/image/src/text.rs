//! Text that a stranger wrote, short and harmless, for errors.

use std::error::Error;

/// Most characters of such a text in an error.
const SHOWN: usize = 100;

/// The text in quotes: what would act on a terminal or a log is escaped, and a long text is cut.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// The text in one line without quotes, at most `limit` characters of it: of a library's error,
/// which may repeat what it was given.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.trim().chars().enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        let plain = matches!(character, '"' | '\'' | '\\') || character.escape_debug().count() == 1;
        shown.push(if plain { character } else { ' ' });
    }
    shown
}

/// An error and all that is behind it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Where in a JSON text a problem is. The library's own words may repeat a secret.
pub(crate) fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// The known word that looks most like `word`.
pub(crate) fn nearest<'a>(known: &[&'a str], word: &str) -> &'a str {
    let start: String = word.chars().take(SHOWN).collect();
    let likeness = |known: &&str| strsim::jaro_winkler(known, &start);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_stranger_is_short_and_does_nothing() {
        assert_eq!(quoted("a\x1b[2J\u{202e}\"b"), r#""a\u{1b}[2J\u{202e}\"b""#);
        assert_eq!(quoted(&"é".repeat(1000)), format!("{:?}… (2000 bytes)", "é".repeat(100)));
        assert_eq!(
            line(" it's \"a\\b\"\r\nE1129 forged\u{202e}\n", 99),
            "it's \"a\\b\"  E1129 forged "
        );
        assert_eq!(line("abcd", 3), "abc…");
    }

    #[test]
    fn nearest_word_is_the_one_that_was_meant() {
        let known = ["capabilities", "ca", "client", "server"];
        assert_eq!(nearest(&known, "capabilites"), "capabilities");
        assert_eq!(nearest(&known, "clients"), "client");
        assert_eq!(nearest(&known, &"servers".repeat(1 << 18)), "server");
        assert_eq!(nearest(&[], "x"), "");
    }
}
