//! Text that a guest decides on, or a VMM that it may have taken over. Such text is data. People
//! are shown as little of it as serves them, and nothing that would act on their terminal or log.
//! This module is pure.

/// Most bytes of such a text in an error: it ends up in events, statuses and terminals.
pub(crate) const MAX_TEXT: usize = 1024;

/// The beginning of `text` in one line: at most `limit` bytes, and a sign where there was more.
/// What is no visible character is replaced by a question mark.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        let character = if is_visible(character) { character } else { '?' };
        if shown.len() + character.len_utf8() > limit {
            shown.push('…');
            break;
        }
        shown.push(character);
    }
    shown
}

/// What a guest says of an error.
pub(crate) fn guest_text(text: &str) -> String {
    printable(text, MAX_TEXT)
}

/// Whether a character shows itself where it stands: neither a control character, nor one that
/// breaks lines, has no width, or changes the direction of others.
fn is_visible(character: char) -> bool {
    let hidden = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    let hidden = hidden.iter().any(|range| range.contains(&character));
    !(character.is_control() || hidden || character == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_guest_is_short_and_does_nothing() {
        assert_eq!(guest_text("no such file: \u{e4}\n"), "no such file: ä");
        let hostile = "\x1b[2Jgone\r\nE1129 forged\u{202e}\u{9b}31m\0";
        assert_eq!(guest_text(hostile), "?[2Jgone??E1129 forged??31m?");
        let long = guest_text(&"é".repeat(1 << 20));
        assert!(long.len() <= MAX_TEXT + '…'.len_utf8() && long.ends_with("é…"), "{}", long.len());
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc…");
    }
}
