//! passwd(5) and group(5) of an image. Whoever made the image wrote them.

use oci_spec::runtime::User;

use super::input::Accounts;

/// Most bytes of either file that are read.
const MAX_BYTES: usize = 8 << 20;

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Id(u32),
    Text(String),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) user: Name,
    /// None: the group that the image has for the user.
    pub(super) group: Option<Name>,
    /// Whether the groups that the image has for the user are added.
    pub(super) merge: bool,
    /// Groups that were asked for.
    pub(super) groups: Vec<u32>,
    /// User and group in one, as they were asked for.
    pub(super) text: String,
}

/// Looks up what was asked for, as containerd does. Additional groups have the user's own.
///
/// # Errors
/// The reason, in words: a name is not there, or a file is too long.
pub(super) fn resolve(request: &Request, accounts: &Accounts) -> Result<User, String> {
    if accounts.passwd.len().max(accounts.group.len()) > MAX_BYTES {
        return Err(format!("/etc/passwd or /etc/group of the image is over {MAX_BYTES} bytes"));
    }
    let entry = entry(&accounts.passwd, &request.user);
    let uid = match (&request.user, &entry) {
        (_, Some(entry)) => entry.uid,
        (Name::Id(id), None) => *id,
        (Name::Text(_), None) => return Err("not in /etc/passwd of the image".to_owned()),
    };
    let gid = match &request.group {
        None => entry.as_ref().map_or(0, |entry| entry.gid),
        Some(Name::Id(id)) => *id,
        Some(Name::Text(name)) => group(&accounts.group, name)
            .ok_or_else(|| "the group is not in /etc/group of the image".to_owned())?,
    };
    let mut groups = request.groups.clone();
    groups.push(gid);
    if let Some(entry) = entry.filter(|_| request.merge) {
        groups.extend(groups_of(&accounts.group, entry.name));
    }
    groups.sort_unstable();
    groups.dedup();
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid).set_additional_gids(Some(groups));
    Ok(user)
}

struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

/// The first line of a user. Lines that are none are passed over.
fn entry<'a>(passwd: &'a [u8], user: &Name) -> Option<Entry<'a>> {
    let read = |line: &'a [u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        Some(Entry { name, uid: number(fields.nth(1)?)?, gid: number(fields.next()?)? })
    };
    let is = |entry: &Entry<'_>| match user {
        Name::Id(id) => entry.uid == *id,
        Name::Text(name) => entry.name == name.as_bytes(),
    };
    lines(passwd).filter_map(read).find(is)
}

/// The lines of a group(5): name, id, members.
fn all_groups(file: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let id = number(fields.nth(1)?)?;
        Some((name, id, fields.next().unwrap_or_default()))
    })
}

fn group(file: &[u8], name: &str) -> Option<u32> {
    all_groups(file).find(|(found, ..)| *found == name.as_bytes()).map(|(_, id, _)| id)
}

/// The groups that have a user among their members, but for the one of the same name.
fn groups_of<'a>(file: &'a [u8], user: &[u8]) -> Vec<u32> {
    let has = |members: &'a [u8]| members.split(|byte| *byte == b',').any(|name| name == user);
    let found = all_groups(file).filter(|(name, _, members)| *name != user && has(members));
    found.map(|(_, id, _)| id).collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// An id that is no other program's -1.
fn number(field: &[u8]) -> Option<u32> {
    let id: u32 = std::str::from_utf8(field).ok()?.parse().ok()?;
    i32::try_from(id).is_ok().then_some(id)
}
