//! Profiles of seccomp and AppArmor, as the interface names them: by a message, or by a text in
//! fields that are deprecated.

use protocol::cri::SecurityProfile;
use protocol::cri::security_profile::ProfileType;

use super::SpecError;
use super::error::shown;

/// Which profile somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profile {
    /// The one that we choose.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// One of the node's: a path or a name.
    Localhost(String),
}

/// Reads what was asked for; none if nothing was.
///
/// # Errors
/// A type or a text that nobody knows, a name without the type that needs one, or the reverse.
pub(super) fn read(
    what: &'static str,
    message: Option<&SecurityProfile>,
    text: &str,
) -> Result<Option<Profile>, SpecError> {
    let bad = |reason: &str| SpecError::Confinement { what, reason: shown(reason) };
    let local = |name: &str| {
        let name = name.strip_prefix("localhost/").unwrap_or(name);
        let named = !name.is_empty() && !name.contains('\0');
        named.then(|| Profile::Localhost(name.to_owned()))
    };
    let Some(message) = message else {
        return Ok(Some(match text {
            "" => return Ok(None),
            "runtime/default" | "docker/default" => Profile::RuntimeDefault,
            "unconfined" => Profile::Unconfined,
            _ if text.starts_with("localhost/") => {
                local(text).ok_or_else(|| bad("the profile has no name"))?
            }
            _ => return Err(bad(&format!("profile \"{text}\" is unknown"))),
        }));
    };
    let name = message.localhost_ref.as_str();
    let Ok(kind) = ProfileType::try_from(message.profile_type) else {
        return Err(bad(&format!("profile type {} is unknown", message.profile_type)));
    };
    if kind == ProfileType::Localhost {
        return local(name).map(Some).ok_or_else(|| bad("the profile has no name"));
    }
    if !name.is_empty() {
        return Err(bad("localhostRef is for profiles of type Localhost only"));
    }
    let default = kind == ProfileType::RuntimeDefault;
    Ok(Some(if default { Profile::RuntimeDefault } else { Profile::Unconfined }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_asked_for_in_two_ways() {
        let local = |name: &str| Ok(Some(Profile::Localhost(name.to_owned())));
        for (kind, name, expected) in [
            (0, "", Ok(Some(Profile::RuntimeDefault))),
            (1, "", Ok(Some(Profile::Unconfined))),
            (2, "/p.json", local("/p.json")),
            (2, "localhost/p", local("p")),
            (2, "", Err("seccomp: the profile has no name")),
            (0, "p", Err("seccomp: localhostRef is for profiles of type Localhost only")),
            (7, "", Err("seccomp: profile type 7 is unknown")),
        ] {
            let message = SecurityProfile { profile_type: kind, localhost_ref: name.to_owned() };
            let found = read("seccomp", Some(&message), "ignored");
            let found = found.map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned));
        }
        for (text, expected) in [
            ("", Ok(None)),
            ("runtime/default", Ok(Some(Profile::RuntimeDefault))),
            ("docker/default", Ok(Some(Profile::RuntimeDefault))),
            ("unconfined", Ok(Some(Profile::Unconfined))),
            ("localhost//p.json", local("/p.json")),
            ("localhost/", Err("AppArmor: the profile has no name")),
            ("p", Err("AppArmor: profile \"p\" is unknown")),
        ] {
            let found = read("AppArmor", None, text).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
