//! The parts of a reference, as the regular expressions of github.com/distribution/reference
//! (`regexp.go`) have them.

use std::net::Ipv6Addr;

use super::{MAX_HOST, MAX_PATH, Problem};
use crate::text::quoted;

const MAX_TAG: usize = 128;

/// Whether the text is an image's id rather than a name.
pub(super) fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the text before a name's first slash is meant as a registry: it has a dot or a colon,
/// or capital letters, which no folder has, or is `localhost`.
pub(super) fn looks_like_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.chars().any(char::is_uppercase)
}

/// Checks a registry's host and port.
pub(super) fn check_host(text: &str) -> Result<(), Problem> {
    let refused = || Problem::Host(quoted(text));
    if text.len() > MAX_HOST {
        let length = text.len();
        return Err(Problem::TooLong { part: "registry's host", length, limit: MAX_HOST });
    }
    let (host, port) = if text.starts_with('[') {
        let (host, rest) = text.split_once(']').ok_or_else(refused)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')) };
        (host, port.map(|port| port.ok_or_else(refused)).transpose()?)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let valid = match host.strip_prefix('[') {
        // Neither a zone nor an IPv4 address within, as in the original.
        Some(address) => !address.contains(['.', '%']) && address.parse::<Ipv6Addr>().is_ok(),
        // The original takes a host with underscores for a folder of no registry, if there is no
        // port. containerd then asks that host.
        None => host.split('.').all(is_label) || port.is_none() && is_component(host),
    };
    if !valid {
        return Err(refused());
    }
    match port {
        Some(port) if port.contains(|other: char| !other.is_ascii_digit()) => Err(refused()),
        Some(port) if port.parse::<u16>().is_err() => Err(Problem::Port(quoted(port))),
        _ => Ok(()),
    }
}

fn is_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.bytes().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Checks a repository's name without its registry.
pub(super) fn check_path(path: &str) -> Result<(), Problem> {
    if path.len() > MAX_PATH {
        let length = path.len();
        return Err(Problem::TooLong { part: "repository's name", length, limit: MAX_PATH });
    }
    if path.chars().any(char::is_uppercase) {
        return Err(Problem::Uppercase(quoted(path)));
    }
    match path.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(Problem::Component(quoted(component))),
        None => Ok(()),
    }
}

/// Words of lower-case letters and digits, between which are separators: one dot, one or two
/// underscores, or any number of hyphens.
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    let separators = text.as_bytes().split(is_word).filter(|between| !between.is_empty());
    let allowed = |separator: &[u8]| {
        matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    };
    ends.into_iter().all(|end| end.is_some_and(is_word)) && separators.into_iter().all(allowed)
}

/// Whether the text is a tag.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    text.len() <= MAX_TAG && text.bytes().next().is_some_and(word) && text.bytes().all(rest)
}
