//! What a plugin's output means (specification, section 5). This module is pure.

use std::fmt::Display;
use std::process::ExitStatus;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::text::{printable, quoted, said};
use crate::verb::Verb;

/// The JSON object that a plugin answered.
pub(crate) type Answer = Map<String, Value>;

/// What became of a plugin that ended by itself.
pub(super) fn interpret(
    plugin: &str,
    verb: Verb,
    status: &ExitStatus,
    output: &[u8],
    errors: &[u8],
) -> Result<Answer, Error> {
    if status.success() && !errors.is_empty() {
        log::debug!("CNI plugin {}, {verb}: {}", quoted(plugin), said(errors));
    }
    let ended: Result<(), &dyn Display> = if status.success() { Ok(()) } else { Err(status) };
    parse(plugin, verb, ended, output, errors)
}

/// What a plugin's outputs mean after an end without, or with, an error.
///
/// # Errors
/// [`Error::Plugin`] in its own words, [`Error::Failed`] without such, [`Error::Answer`] if it
/// claims to have succeeded and says nothing that makes sense.
pub(crate) fn parse(
    plugin: &str,
    verb: Verb,
    ended: Result<(), &dyn Display>,
    output: &[u8],
    errors: &[u8],
) -> Result<Answer, Error> {
    let parsed = serde_json::from_slice::<Value>(output);
    let object = parsed.as_ref().ok().and_then(Value::as_object);
    if let Some(error) = object.and_then(|object| own_words(plugin, verb, object)) {
        return Err(error);
    }
    if let Err(status) = ended {
        // Both at once would be a plugin's log and half of an answer.
        let words = if errors.iter().all(u8::is_ascii_whitespace) { output } else { errors };
        let (plugin, status) = (quoted(plugin), status.to_string());
        return Err(Error::Failed { plugin, verb, status, said: said(words) });
    }
    match (verb, parsed) {
        (Verb::Add | Verb::Version, Ok(Value::Object(answer))) => Ok(answer),
        (Verb::Add | Verb::Version, _) if output.iter().all(u8::is_ascii_whitespace) => {
            Err(Error::answer(plugin, verb, "there is none"))
        }
        (Verb::Add | Verb::Version, _) => {
            Err(Error::answer(plugin, verb, format!("it is no JSON object: {}", said(output))))
        }
        // The others have nothing to say.
        _ => Ok(Answer::new()),
    }
}

/// A plugin's own error.
fn own_words(plugin: &str, verb: Verb, answer: &Answer) -> Option<Error> {
    let text = |key: &str| printable(answer.get(key).and_then(Value::as_str).unwrap_or_default());
    let code = answer.get("code").and_then(Value::as_u64).and_then(|code| code.try_into().ok())?;
    if code == 0 {
        return None;
    }
    let plugin = quoted(plugin);
    Some(Error::Plugin { plugin, verb, code, msg: text("msg"), details: text("details") })
}

#[cfg(test)]
mod tests;
