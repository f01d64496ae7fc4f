//! Who a process shall be, and who that is (pure).

use crate::Files;
use crate::error::{AccountError, MAX_GROUPS, MAX_ID};
use crate::table::{User, groups, users};

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// By number, [`MAX_ID`] at most. The image may have a line for it.
    Id(u32),
    /// By name, which is not empty.
    Text(String),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The user.
    pub user: Name,
    /// The group; none: the one that the image has for the user.
    pub group: Option<Name>,
    /// Whether the groups that the image has for the user are added.
    pub merge: bool,
    /// Groups that were asked for beside it.
    pub groups: Vec<u32>,
}

/// Who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups, `gid` among them: sorted, each once, [`MAX_GROUPS`] at most.
    pub groups: Vec<u32>,
}

impl Request {
    /// Reads `user`, `user:group`, `:group` or nothing. A part that is empty is id 0.
    ///
    /// # Errors
    /// [`AccountError::Form`] and [`AccountError::Range`].
    pub fn parse(text: &str, merge: bool, groups: Vec<u32>) -> Result<Self, AccountError> {
        let mut parts = text.split(':');
        let user = name(parts.next().unwrap_or_default())?;
        let group = parts.next().map(name).transpose()?;
        if parts.next().is_some() || text.contains('\0') {
            return Err(AccountError::Form);
        }
        Ok(Self { user, group, merge, groups })
    }

    /// Looks it up, as containerd does: the first line that fits counts.
    ///
    /// # Errors
    /// [`AccountError::NoUser`], [`AccountError::NoGroup`] and [`AccountError::Groups`].
    pub fn resolve(&self, files: &Files) -> Result<Ids, AccountError> {
        let line = users(&files.passwd).find(|line| self.is(line));
        let uid = match (&self.user, &line) {
            (_, Some(line)) => line.uid,
            (Name::Id(id), None) => *id,
            (Name::Text(_), None) => return Err(AccountError::NoUser),
        };
        let gid = match &self.group {
            None => line.as_ref().map_or(0, |line| line.gid),
            Some(Name::Id(id)) => *id,
            Some(Name::Text(name)) => {
                let found = groups(&files.group).find(|group| group.name == name.as_bytes());
                found.ok_or(AccountError::NoGroup)?.gid
            }
        };
        let mut all = self.groups.clone();
        all.push(gid);
        if let Some(User { name, .. }) = line.filter(|_| self.merge) {
            let found = groups(&files.group).filter(|group| group.name != name && group.has(name));
            all.extend(found.map(|group| group.gid));
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > MAX_GROUPS {
            Err(AccountError::Groups)
        } else {
            Ok(Ids { uid, gid, groups: all })
        }
    }

    fn is(&self, line: &User<'_>) -> bool {
        match &self.user {
            Name::Id(id) => line.uid == *id,
            Name::Text(name) => line.name == name.as_bytes(),
        }
    }
}

impl Files {
    /// The home directory that the first line with this id has, if it has one.
    pub fn home(&self, uid: u32) -> Option<&[u8]> {
        let line = users(&self.passwd).find(|line| line.uid == uid)?;
        Some(line.home).filter(|home| !home.is_empty())
    }
}

/// What looks like a number is meant as one.
fn name(part: &str) -> Result<Name, AccountError> {
    if part.is_empty() {
        return Ok(Name::Id(0));
    }
    let digits = part.strip_prefix(['+', '-']).unwrap_or(part);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Name::Text(part.to_owned()));
    }
    let id = part.parse().ok().filter(|id| (0..=i64::from(MAX_ID)).contains(id));
    id.and_then(|id| u32::try_from(id).ok()).map(Name::Id).ok_or(AccountError::Range)
}

#[cfg(test)]
mod tests;
