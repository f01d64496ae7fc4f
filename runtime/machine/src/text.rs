//! Text that a guest decides on, or a VMM that it may have taken over. Such text is data. People
//! are shown as little of it as serves them, and nothing that would act on their terminal or log.
//! This module is pure.

pub(crate) use api::text::printable;

/// Most bytes of such a text in an error: it ends up in events, statuses and terminals.
pub(crate) const MAX_TEXT: usize = 1024;

/// What a guest says of an error.
pub(crate) fn guest_text(text: &str) -> String {
    printable(text, MAX_TEXT)
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
