//! Text that somebody hostile may have decided on, for errors and logs. People are shown as little
//! of it as serves them, and nothing that would act on their terminal or log. This module is pure.

/// The beginning of `text` in one line: at most `limit` bytes, and a sign where there was more.
/// What is no visible character is replaced by a question mark.
pub fn printable(text: &str, limit: usize) -> String {
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
    fn text_is_cut_at_a_limit_in_bytes() {
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc…");
    }

    #[test]
    fn text_does_nothing_to_a_terminal() {
        let hostile = "\x1b[2Jgone\r\nE1129 forged\u{202e}\u{9b}31m\0";
        assert_eq!(printable(hostile, 100), "?[2Jgone??E1129 forged??31m?");
    }
}
