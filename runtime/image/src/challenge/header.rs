//! The header's grammar. A comma parts challenges, and also the parameters of one: a word that no
//! equals sign follows begins the next challenge.
//!
//! What does not fit the grammar ends the reading. What was read before counts, as in containerd.

use std::borrow::Cow;

use super::{ChallengeError, MAX_CHALLENGES, MAX_HEADER, MAX_PARAMETERS};

/// A challenge as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    pub(super) scheme: &'a str,
    parameters: Vec<(&'a str, Cow<'a, str>)>,
}

impl Parsed<'_> {
    /// The last value of a parameter, whose name's case does not count.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let same = |(other, _): &&(&str, Cow<'_, str>)| other.eq_ignore_ascii_case(name);
        self.parameters.iter().rev().find(same).map(|(_, value)| value.as_ref())
    }
}

/// Parses a header's value.
pub(super) fn parse(text: &str) -> Result<Vec<Parsed<'_>>, ChallengeError> {
    if text.len() > MAX_HEADER {
        return Err(ChallengeError::TooLong(text.len()));
    }
    let mut found: Vec<Parsed<'_>> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        let Some((value, end)) = value(after) else {
            if word.is_empty() || found.len() == MAX_CHALLENGES {
                break;
            }
            found.push(Parsed { scheme: word, parameters: Vec::new() });
            rest = token68(after);
            continue;
        };
        let Some(challenge) = found.last_mut().filter(|_| !word.is_empty()) else { break };
        if challenge.parameters.len() < MAX_PARAMETERS {
            challenge.parameters.push((word, value));
        }
        rest = end.trim_start_matches([' ', '\t']);
        if !rest.starts_with(',') {
            break;
        }
    }
    Ok(found)
}

/// A word, which may be empty, and what follows.
fn token(text: &str) -> (&str, &str) {
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.split_at(text.bytes().position(|byte| !within(byte)).unwrap_or(text.len()))
}

/// What follows a scheme's data of another form than parameters, such as `Negotiate YII=`.
fn token68(text: &str) -> &str {
    let start = text.trim_start_matches([' ', '\t']);
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let length = start.bytes().position(|byte| !within(byte)).unwrap_or(start.len());
    let data = start[length..].trim_start_matches('=');
    let ends = data.trim_start_matches([' ', '\t']);
    if length > 0 && (ends.is_empty() || ends.starts_with(',')) { data } else { text }
}

/// An equals sign and a value, which is a word or quoted, and what follows.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = token(text);
        return Some((Cow::Borrowed(word), rest));
    };
    let end = quoted.find(['"', '\\'])?;
    if quoted[end..].starts_with('"') {
        return Some((Cow::Borrowed(&quoted[..end]), &quoted[end + 1..]));
    }
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((Cow::Owned(value), &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}
