//! What stands in an answer of a registry beside its content. All of it is a stranger's text, and
//! this module is pure.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::redact::redact;
use crate::text::line;

/// Most bytes of a refusal's body that are read.
pub const MAX_WORDS_BYTES: u64 = 8 << 10;

/// Most characters of a refusal's code, and of its message.
const MAX_CODE: usize = 40;
const MAX_MESSAGE: usize = 160;

/// The header `Content-Range` of a part of something (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The place of the first byte.
    pub first: u64,
    /// The place of the last byte, which is part of it.
    pub last: u64,
    /// The size of the whole, if it is said.
    pub whole: Option<u64>,
}

impl ContentRange {
    /// Reads the header's value. None: it is not of bytes, or makes no sense.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.trim().split_once(' ')?;
        let (part, whole) = range.trim_start().split_once('/')?;
        let (first, last) = part.split_once('-')?;
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let whole = if whole == "*" { None } else { Some(number(whole)?) };
        let range = Self { first: number(first)?, last: number(last)?, whole };
        let within = whole.is_none_or(|whole| range.last < whole);
        (unit.eq_ignore_ascii_case("bytes") && range.first <= range.last && within).then_some(range)
    }

    /// How many bytes the part has. At most 2^64 - 1 are said.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// How long a server asks to be left alone: its header `Retry-After`, in seconds or as a date.
/// None: it does not ask, or in no way that is known.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than can be read is long enough.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let date = SystemTime::from(OffsetDateTime::parse(text, &Rfc2822).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says to its refusal, in one line: the first code and message of the body
/// (distribution specification, "Error Codes"). Empty: nothing that is known.
pub fn words(body: &[u8]) -> String {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else { return String::new() };
    let Some(entry) = refusal.errors.into_iter().next() else { return String::new() };
    let code = line(&redact(&entry.code), MAX_CODE);
    let message = line(&redact(&entry.message), MAX_MESSAGE);
    match (code.is_empty(), message.is_empty()) {
        (_, true) => code,
        (true, false) => message,
        (false, false) => format!("{code}: {message}"),
    }
}

/// Where a redirect leads, from the address that answered so.
///
/// # Errors
/// A few words if no request may go there: from TLS into the clear, or with somebody's name.
pub fn location(from: &Url, header: Option<&HeaderValue>) -> Result<Url, &'static str> {
    let text = header.ok_or("it names no address")?;
    let text = text.to_str().map_err(|_| "its address is no URL")?;
    let mut to = from.join(text).map_err(|_| "its address is no URL")?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err("it leads out of TLS"),
        _ => return Err("it leads to neither https:// nor http://"),
    }
    if !to.has_host() || !to.username().is_empty() || to.password().is_some() {
        return Err("its address has no host, or a user");
    }
    to.set_fragment(None);
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_only_as_it_is_written() {
        let range = |first, last, whole| Some(ContentRange { first, last, whole });
        for (text, expected) in [
            ("bytes 5-9/10", range(5, 9, Some(10))),
            ("Bytes 0-0/*", range(0, 0, None)),
            (" bytes  5-9/10 ", range(5, 9, Some(10))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes +5-9/10", None),
            ("bytes 5-99999999999999999999/*", None),
            ("items 5-9/10", None),
            ("bytes", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
        let all = ContentRange::parse("bytes 0-18446744073709551615/*").unwrap();
        assert_eq!(all.length(), u64::MAX);
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("120", Some(120)),
            ("99999999999", Some(u32::MAX.into())),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:40:07 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = [("retry-after", text)].map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let wait = retry_after(&headers.into_iter().collect(), now);
            assert_eq!(wait, expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn words_of_a_refusal_are_short_and_show_no_secret() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "DENIED: no"),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (r#"{"errors":[{"message":"https://u:p@h/?sig=1\n\u001b[2J"}]}"#, "https://…@h/?… [2J"),
            (r#"{"errors":[]}"#, ""),
            ("<html>", ""),
        ] {
            assert_eq!(words(body.as_bytes()), expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "a b ".repeat(1 << 10));
        assert!(words(long.as_bytes()).chars().count() <= MAX_MESSAGE + 1);
    }

    #[test]
    fn redirects_lead_only_to_where_requests_may_go() {
        let to = |from: &str, text: &'static str| {
            location(&from.parse().unwrap(), Some(&HeaderValue::from_static(text)))
                .map(|url| url.to_string())
        };
        let (tls, clear) = ("https://h:5000/v2/a/b", "http://h/v2/");
        assert_eq!(to(tls, "/x?y#z").as_deref(), Ok("https://h:5000/x?y"));
        assert_eq!(to(tls, "https://other/x").as_deref(), Ok("https://other/x"));
        assert_eq!(to(clear, "https://other/x").as_deref(), Ok("https://other/x"));
        assert_eq!(to(clear, "//other/x").as_deref(), Ok("http://other/x"));
        assert_eq!(to(tls, "http://h:5000/x"), Err("it leads out of TLS"));
        for wrong in ["file:///etc/passwd", "https://u:p@h/", "https://u@h/", "https://", "data:,x"]
        {
            assert!(to(tls, wrong).is_err(), "{wrong}");
        }
        assert!(location(&tls.parse().unwrap(), None).is_err());
    }
}
