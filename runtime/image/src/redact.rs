//! Texts without secrets. Errors of a pull end up in a pod's events, where more people read them
//! than may pull. Addresses and errors that others wrote go through here first.
//!
//! Left out is:
//! - of each URL the user and password, the query and the fragment: a signed address is a
//!   password;
//! - the word after `Bearer`, `Basic` and `Authorization:`;
//! - the value after a name such as `token=` or `"password":`;
//! - whatever looks like a JSON web token.

/// What stands in place of what was left out.
const LEFT_OUT: &str = "…";

/// Most bytes of a text that was redacted.
pub const MAX_TEXT: usize = 1024;

/// Most bytes of a text that are looked at.
const MAX_INPUT: usize = 8 << 10;

/// Words that are harmless after `Bearer` and `Basic`.
const HARMLESS: [&str; 7] =
    ["auth", "authentication", "authorization", "challenge", "credentials", "scheme", "token"];

/// Parts of names whose value is a secret.
const NAMES: [&str; 8] =
    ["token", "secret", "password", "passwd", "credential", "signature", "apikey", "api_key"];

/// The text without what must not be shown: in one line, and at most [`MAX_TEXT`] bytes of it.
pub fn redact(text: &str) -> String {
    let mut shown = String::new();
    let mut secret_follows = false;
    let acts = |letter: char| letter.is_whitespace() || letter.escape_debug().count() > 1;
    let text = &text[..text.floor_char_boundary(MAX_INPUT)];
    let words = text.split(|letter| acts(letter) && !"\"'\\".contains(letter));
    for word in words.filter(|word| !word.is_empty()) {
        let clean = if secret_follows && !is_harmless(word) {
            LEFT_OUT.to_owned()
        } else {
            without_tokens(&without_value(&without_address(word)))
        };
        secret_follows = announces_secret(word) || secret_follows && is_scheme(word);
        if shown.len() + clean.len() + LEFT_OUT.len() >= MAX_TEXT {
            shown.push_str(LEFT_OUT);
            break;
        }
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(&clean);
    }
    shown
}

fn bare(word: &str) -> String {
    let marks = |letter: char| !letter.is_alphanumeric();
    word.trim_matches(marks).to_ascii_lowercase()
}

fn is_scheme(word: &str) -> bool {
    matches!(bare(word).as_str(), "bearer" | "basic")
}

/// Whether the next word is a secret.
fn announces_secret(word: &str) -> bool {
    let end = word.trim_end_matches(['"', '\'']);
    let name = end.trim_end_matches([':', '=']);
    let last = bare(name.rsplit([',', ';', '{', '(', '=', ':']).next().unwrap_or_default());
    let names_value = name.len() < end.len();
    let certainly = end.ends_with('=') || name.ends_with(['"', '\'']);
    is_scheme(&last)
        || names_value && (last == "authorization" || last.contains("password"))
        || names_value && certainly && names_secret(&last)
}

fn names_secret(name: &str) -> bool {
    NAMES.iter().any(|part| name.contains(part))
}

/// Whether a word that may be a secret is an ordinary word, a challenge's parameter, or the scheme
/// before the secret.
fn is_harmless(word: &str) -> bool {
    let bare = bare(word);
    HARMLESS.contains(&bare.as_str()) || is_scheme(word) || bare.starts_with("realm=")
}

/// The word without the user, password, query and fragment of a URL in it. Where two stand in one
/// word, more is left out.
fn without_address(word: &str) -> String {
    let Some(start) = word.find("://").map(|at| at + 3) else { return without_query(word, '?') };
    let (scheme, place) = word.split_at(start);
    // A password may hold any sign. What stands before a digest is no password.
    let digest = |at: usize| place[at..].starts_with("@sha") && place[at..].contains(':');
    let user = place.rmatch_indices('@').find(|(at, _)| !digest(*at)).map(|(at, _)| at);
    let place = match user {
        Some(at) if place[..at].contains('?') => LEFT_OUT.to_owned(),
        Some(at) => format!("{LEFT_OUT}{}", &place[at..]),
        None => place.to_owned(),
    };
    format!("{scheme}{}", without_query(&without_query(&place, '?'), '#'))
}

/// The text up to the mark, unless nothing follows. Of what follows the punctuation at the end
/// stays.
fn without_query(text: &str, mark: char) -> String {
    let Some((before, after)) = text.split_once(mark) else { return text.to_owned() };
    let query = after.trim_end_matches(['"', '\'', ':', ',', ';', '.', ')', '>', ']', '…']);
    let left_out = if query.is_empty() { "" } else { LEFT_OUT };
    format!("{before}{mark}{left_out}{}", &after[query.len()..])
}

/// The word without what follows a name of a secret.
fn without_value(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    let value = |(start, name): (usize, &str)| {
        let after = start + name.len();
        let sign = lower[after..].find(['=', ':'])? + after;
        // A path has such words too: there is no value without a sign right after the name.
        let between = &lower[after..sign];
        let close = between.chars().all(|c| c.is_alphanumeric() || "_-\"'\\".contains(c));
        let valued = lower[sign..].starts_with('=') || between.ends_with(['"', '\'']);
        (close && valued && sign + 1 < word.len()).then_some(sign + 1)
    };
    let values = NAMES.iter().flat_map(|name| lower.match_indices(name)).filter_map(value);
    match values.min() {
        Some(at) => format!("{}{LEFT_OUT}", &word[..at]),
        None => word.to_owned(),
    }
}

/// The word without JSON web tokens: `eyJ` is how the encoding of `{"` begins.
fn without_tokens(word: &str) -> String {
    let mut clean = String::new();
    let mut rest = word;
    while let Some(at) = rest.find("eyJ") {
        clean.push_str(&rest[..at]);
        let token = |letter: char| letter.is_ascii_alphanumeric() || "._-+/=".contains(letter);
        let end = rest[at..].find(|letter| !token(letter)).map_or(rest.len(), |length| at + length);
        clean.push_str(LEFT_OUT);
        rest = &rest[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Noise;

    #[test]
    fn secrets_are_left_out_and_the_rest_stays() {
        let word = "aGVsbG86d29ybGQ=";
        for (text, shown) in [
            (
                "dial tcp 10.0.0.1:443: connection refused",
                "dial tcp 10.0.0.1:443: connection refused",
            ),
            ("https://u:p@h:5000/v2/x?sig=1#f", "https://…@h:5000/v2/x?…"),
            ("Get \"https://h/x?X-Amz-Signature=1\": EOF", "Get \"https://h/x?…\": EOF"),
            ("(https://h/a#b), https://h/c?", "(https://h/a#…), https://h/c?"),
            ("https://h/a@sha256:00", "https://h/a@sha256:00"),
            ("https://u:p/q@r@h/a@sha256:00", "https://…@h/a@sha256:00"),
            ("a=https://u@h/,b=http://v@i", "a=https://…@i"),
            ("/v2/a?token=b really?", "/v2/a?… really?"),
            (&format!("Authorization: Bearer {word} x"), "Authorization: Bearer … x"),
            (&format!("authorization:Basic {word}"), "authorization:Basic …"),
            (&format!("Authorization: {word}"), "Authorization: …"),
            ("no basic auth credentials", "no basic auth credentials"),
            ("Bearer realm=\"https://a/b?c\"", "Bearer realm=\"https://a/b?…\""),
            ("{\"token\":\"abc\",\"x\":1}", "{\"token\":…"),
            ("{\"access_token\": \"abc\"}", "{\"access_token\": …"),
            ("user=a password=hunter2, b", "user=a password=… b"),
            ("password: hunter2", "password: …"),
            (
                "failed to fetch oauth token: unexpected status",
                "failed to fetch oauth token: unexpected status",
            ),
            ("token_type:x,token=y", "token_type:x,token=…"),
            (
                "https://u:p,q@h/ https://u:p#q@h https://u:p?q@h",
                "https://…@h/ https://…@h https://…",
            ),
            ("https://h:5000/a https://[::1]:80", "https://h:5000/a https://[::1]:80"),
            ("key eyJhbGciOi.eyJz.c-_=; ok", "key …; ok"),
            ("a\r\nb\u{1b}[2J\u{202e}\t c", "a b [2J c"),
            ("", ""),
        ] {
            assert_eq!(redact(text), shown, "{text}");
            assert_eq!(redact(shown), shown, "again");
        }
        let long = redact(&"é ".repeat(1 << 20));
        assert!(long.len() <= MAX_TEXT && long.ends_with('…'));
        assert_eq!(redact(&"x".repeat(1 << 20)), "…");
    }

    #[test]
    fn no_secret_is_seen_wherever_it_stands() {
        let mut noise = Noise::new(4);
        for _ in 0..20_000 {
            let secret = "S3CR3T";
            let mut filler = || noise.text("ab/:.-&é,#?", 8);
            let (a, b, c) = (filler(), filler(), filler());
            let url = format!("https://h/{a}?{b}={secret}{c}");
            let user = format!("http://{b}:{secret}{c}@h/{a}");
            let header = format!("Bearer {secret}{a}");
            let json = format!("{{\"refresh_token\":\"{secret}{a}\"}}");
            let form = format!("{b} client_secret={secret}&a={a}");
            let text = [url, user, header, json, form];
            let text = format!("{a} {} {c}", noise.pick(&text.each_ref().map(String::as_str)));
            let shown = redact(&text);
            assert!(!shown.contains(secret), "{text} → {shown}");
            assert!(shown.len() <= MAX_TEXT && !shown.contains(char::is_control));
        }
    }
}
