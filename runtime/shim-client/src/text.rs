//! Text of a shim, in which there may be text of a guest. People are shown as much of it as serves
//! them, and nothing that would act on their terminal or log. This module is pure.

/// Most bytes of such a text in an error: it ends up in events, statuses and terminals.
const MAX_TEXT: usize = 3072;

/// The beginning of `text` in one line, and a sign where there was more. Lines are joined. What is
/// no visible character is replaced by a question mark.
pub(crate) fn printable(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    api::text::printable(&lines.collect::<Vec<_>>().join("; "), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_shim_is_one_short_line_that_does_nothing() {
        assert_eq!(printable("no such file: \u{e4}\n"), "no such file: ä");
        assert_eq!(printable("\n one \r\n\ntwo\n"), "one; two");
        assert_eq!(printable("\x1b[2Jgone\u{202e}\u{9b}31m\0"), "?[2Jgone??31m?");
        let long = printable(&"é\n".repeat(1 << 20));
        assert!(long.len() <= MAX_TEXT + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
    }
}
