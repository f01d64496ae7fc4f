//! Who the process is. Names are the image's, so they mean something inside the image only.
//!
//! | runtime | who looks a name up | what the configuration has |
//! |---|---|---|
//! | machine | the agent, in the guest | `username`, and the annotation [`accounts::GROUPS`] |
//! | runc | the daemon, which hands in [`Accounts`] | numbers |
//!
//! The order is containerd's: the container's name, its number, the image's user, 0.

use accounts::{AccountError, Files as Accounts, Ids, Name};
use oci_spec::runtime::User;
use protocol::cri::{Int64Value, LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::SpecError;
use super::error::shown;
use super::input::Runtime;

/// Whom a process is until the agent knows better. One that knows nothing of `username` must not
/// take a name for root.
const NOBODY: u32 = 65534;

/// Who was asked for, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    asked: accounts::Request,
    text: String,
}

/// Reads who a container's process shall be.
///
/// # Errors
/// A group without a user, an id out of range, or an unknown policy.
pub(super) fn request(
    context: &LinuxContainerSecurityContext,
    image: &str,
) -> Result<Request, SpecError> {
    let policy = context.supplemental_groups_policy;
    let Ok(policy) = SupplementalGroupsPolicy::try_from(policy) else {
        return Err(bad("", &format!("supplementalGroupsPolicy {policy} is unknown")));
    };
    let text = user_text(
        &context.run_as_username,
        context.run_as_user.as_ref(),
        context.run_as_group.as_ref(),
    )?;
    let merge = policy == SupplementalGroupsPolicy::Merge;
    read(text.as_deref().unwrap_or(image), merge, &context.supplemental_groups)
}

/// `user` or `user:group`, by what the CRI says of them; none if it says nothing.
///
/// # Errors
/// A group without a user, or a name that is more than one.
pub(super) fn user_text(
    name: &str,
    uid: Option<&Int64Value>,
    gid: Option<&Int64Value>,
) -> Result<Option<String>, SpecError> {
    if name.contains(':') {
        return Err(bad(name, "a name has no colon"));
    }
    let user = match uid {
        _ if !name.is_empty() => name.to_owned(),
        Some(uid) => uid.value.to_string(),
        None if gid.is_some() => return Err(bad("", "a group was asked for without a user")),
        None => return Ok(None),
    };
    Ok(Some(gid.map_or(user.clone(), |gid| format!("{user}:{}", gid.value))))
}

/// Reads `user`, `user:group` or nothing, as an image has it.
///
/// # Errors
/// An id is out of range, or there is more than one colon.
pub(super) fn read(text: &str, merge: bool, groups: &[i64]) -> Result<Request, SpecError> {
    let id = |id: &i64| u32::try_from(*id).ok().filter(|id| *id <= accounts::MAX_ID);
    let ids = groups.iter().map(|group| id(group).ok_or(group)).collect::<Result<_, _>>();
    let groups = ids.map_err(|group| bad(text, &format!("group {group} is out of range")))?;
    let asked = accounts::Request::parse(text, merge, groups)
        .map_err(|error| bad(text, &error.to_string()))?;
    let nobody_named = text.is_empty() || text.starts_with(':');
    let text = if nobody_named { format!("0{text}") } else { text.to_owned() };
    Ok(Request { asked, text })
}

/// What the configuration says, and what its annotation [`accounts::GROUPS`] says, if it has one.
///
/// # Errors
/// A name that the image does not have, or that nobody has looked up.
pub(super) fn user(
    request: &Request,
    runtime: Runtime,
    accounts: Option<&Accounts>,
) -> Result<(User, Option<&'static str>), SpecError> {
    match runtime {
        Runtime::Machine => Ok(in_guest(request)),
        Runtime::Runc => {
            let nothing = Accounts::default();
            let found = request.asked.resolve(accounts.unwrap_or(&nothing));
            let failed = |error: AccountError| bad(&request.text, &error.to_string());
            let Ids { uid, gid, groups } = found.map_err(failed)?;
            let mut user = User::default();
            user.set_uid(uid).set_gid(gid).set_additional_gids(Some(groups));
            Ok((user, None))
        }
    }
}

fn in_guest(request: &Request) -> (User, Option<&'static str>) {
    let id = |name: &Name| if let Name::Id(id) = name { Some(*id) } else { None };
    let Request { asked, text } = request;
    let (uid, gid) = (id(&asked.user), asked.group.as_ref().map(id));
    let mut user = User::default();
    let known = uid.is_some() && gid.is_some_and(|gid| gid.is_some()) && !asked.merge;
    let gid = gid.unwrap_or(uid.map(|_| 0));
    user.set_uid(uid.unwrap_or(NOBODY)).set_gid(gid.unwrap_or(NOBODY));
    let mut groups: Vec<u32> = asked.groups.iter().copied().chain(gid.filter(|_| known)).collect();
    groups.sort_unstable();
    groups.dedup();
    user.set_additional_gids(Some(groups));
    user.set_username((!known).then(|| text.clone()));
    (user, asked.merge.then_some(accounts::MERGE))
}

fn bad(user: &str, reason: &str) -> SpecError {
    SpecError::User { user: shown(user), reason: shown(reason) }
}

#[cfg(test)]
mod tests;
