//! Lines of passwd(5) and group(5), in any bytes. Lines that are none are passed over.

/// A line of passwd(5).
#[derive(Debug)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: &'a [u8],
}

/// A line of group(5).
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    /// Whether a user is named among its members.
    pub(crate) fn has(&self, user: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|name| name == user)
    }
}

/// The users, in the file's order.
pub(crate) fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// The groups, in the file's order.
pub(crate) fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let gid = number(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// An id that is no other program's -1.
fn number(field: &[u8]) -> Option<u32> {
    let id: u32 = std::str::from_utf8(field).ok()?.parse().ok()?;
    (id <= crate::MAX_ID).then_some(id)
}
