//! Who a process is, as a guest tells it.

use agent_api::types;
use api::user::MAX_GROUPS;
use api::{Error, User};

/// Takes over what the guest says, which may be anything. The attack: groups without end, for whoever
/// keeps them.
///
/// # Errors
/// There are more groups than a process can have.
pub(super) fn told(doing: &str, user: types::User) -> Result<User, Error> {
    let types::User { uid, gid, additional_gids: groups, .. } = user;
    if groups.len() > MAX_GROUPS {
        let count = groups.len();
        return Err(Error::Failed(format!("{doing}: it tells of {count} groups of a process")));
    }
    Ok(User { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_a_limit() {
        let user = |count: usize| {
            let additional_gids = vec![7; count];
            told("creating", types::User { uid: 1, gid: 2, additional_gids, ..Default::default() })
        };
        assert_eq!(user(1), Ok(User { uid: 1, gid: 2, groups: vec![7] }));
        assert!(user(MAX_GROUPS).is_ok());
        let error = user(MAX_GROUPS + 1).unwrap_err().to_string();
        assert_eq!(error, "creating: it tells of 65537 groups of a process");
    }
}
