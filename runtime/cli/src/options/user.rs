//! `-u`: as whom a container runs.

use protocol::cri::{Int64Value, LinuxContainerSecurityContext};

/// Reads `USER[:GROUP]`, where a group is a number, into a security context.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn user(text: &str, context: &mut LinuxContainerSecurityContext) -> Result<(), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() {
        return Err(format!("{text:?} is no user such as 1000, 1000:1000 or nobody"));
    }
    match id(user) {
        Some(id) => context.run_as_user = Some(id),
        None => user.clone_into(&mut context.run_as_username),
    }
    context.run_as_group = match group {
        None => None,
        Some(group) => Some(id(group).ok_or_else(|| {
            format!("{text:?}: the group must be a number: names of groups are the image's")
        })?),
    };
    Ok(())
}

fn id(text: &str) -> Option<Int64Value> {
    text.parse::<u32>().ok().map(|value| Int64Value { value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_a_number_or_a_name() {
        let read = |text: &str| {
            let mut context = LinuxContainerSecurityContext::default();
            user(text, &mut context)?;
            let value = |id: Option<Int64Value>| id.map(|id| id.value);
            let ids = (value(context.run_as_user), value(context.run_as_group));
            Ok::<_, String>((ids, context.run_as_username))
        };
        assert_eq!(read("1000:5"), Ok(((Some(1000), Some(5)), String::new())));
        assert_eq!(read("nobody"), Ok(((None, None), "nobody".to_owned())));
        assert!(read("0:staff").unwrap_err().contains("must be a number"));
        assert!(read("").is_err() && read(":5").is_err());
    }
}
