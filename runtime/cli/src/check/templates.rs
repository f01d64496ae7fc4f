//! Whether pods can start from templates.

use host::Config;
use host::config::Templates;
use template::{Listed, Store};

use super::Check;

const TOPIC: &str = "templates";

const LIST: &str = "`cuddy template list` says more; `cuddy template rm --stale` removes them.";

pub(super) fn check(config: Option<&Config>) -> Option<Check> {
    let config = config?;
    let listed = Store::of_node().list();
    let failed = |error: &template::TemplateError| api::error::chain(error);
    Some(match (config.templates, config.debug, listed) {
        (Templates::None, ..) => Check::ok(TOPIC, "not used: `templates` is \"none\""),
        (_, true, _) => Check::ok(TOPIC, "not used: `debug` is set"),
        (.., Err(error)) => Check::warning(TOPIC, failed(&error), "Run this as root."),
        (.., Ok(listed)) => judge(&listed),
    })
}

/// What there is; pods start without, more slowly (pure, but for a look at what they are made of).
fn judge(listed: &[Listed]) -> Check {
    let stale = listed.iter().filter(|listed| listed.is_stale()).count();
    let good = listed.len() - stale;
    let found = format!("{good} to start from");
    match (stale, good) {
        (0, 0) => Check::ok(TOPIC, "none yet: the first pod of a size has one built"),
        (0, _) => Check::ok(TOPIC, found),
        _ => Check::warning(TOPIC, format!("{found}; {stale} damaged or out of date"), LIST),
    }
}

#[cfg(test)]
mod tests {
    use template::{Key, TemplateError};

    use super::super::Status;
    use super::*;

    #[test]
    fn template_that_no_pod_starts_from_is_a_warning() {
        let key: Key = "ab".repeat(16).parse().unwrap();
        let reason = "cut off".to_owned();
        let record = Err(TemplateError::Damaged { key: key.clone(), reason });
        let check = judge(&[Listed { key, record, bytes: 0 }]);
        assert_eq!(check.status, Status::Warning);
        assert_eq!(check.found, "0 to start from; 1 damaged or out of date");
        assert_eq!(judge(&[]).status, Status::Ok);
    }
}
