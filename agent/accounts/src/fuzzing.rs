//! Any user and any two files, for a fuzzer. An input is a byte of switches, then three texts with
//! a NUL between them: what was asked for, passwd(5), group(5).
//!
//! Checked besides panics:
//! - What was asked for by number alone is always somebody, and that number.
//! - A name is the first line that has it, by a second reading of the file.
//! - Nobody gets an id beyond [`MAX_ID`], nor groups that are not sorted or are there twice.
//! - Without `merge` the image adds no group but the user's own.
//! - A home has no line's end and no colon.

use crate::{AccountError, Files, MAX_ID, Name, Request};

/// Runs one input; the error, if it comes to one.
///
/// # Panics
/// Something that is checked is wrong.
pub fn run(input: &[u8]) -> Option<AccountError> {
    let (&bits, rest) = input.split_first()?;
    let mut texts = rest.splitn(3, |byte| *byte == 0);
    let text = String::from_utf8_lossy(texts.next()?);
    let mut file = || texts.next().unwrap_or_default().to_vec();
    let files = Files { passwd: file(), group: file() };
    let (merge, asked) = (bits & 1 != 0, vec![u32::from(bits >> 1)]);
    let request = match Request::parse(&text, merge, asked.clone()) {
        Ok(request) => request,
        Err(error) => return Some(error),
    };
    let named = |name: &Name| matches!(name, Name::Text(_));
    let ids = match request.resolve(&files) {
        Ok(ids) => ids,
        Err(error) => {
            assert!(named(&request.user) || request.group.as_ref().is_some_and(named), "{text:?}");
            return Some(error);
        }
    };
    match &request.user {
        Name::Id(id) => assert_eq!(ids.uid, *id),
        Name::Text(name) => assert_eq!(Some(ids.uid), by_hand(&files.passwd, name.as_bytes())),
    }
    assert!(ids.uid <= MAX_ID && ids.gid <= MAX_ID);
    assert!(ids.groups.is_sorted_by(|before, after| before < after), "{:?}", ids.groups);
    assert!(ids.groups.contains(&ids.gid) && asked.iter().all(|id| ids.groups.contains(id)));
    if !merge {
        assert!(ids.groups.iter().all(|id| *id == ids.gid || asked.contains(id)));
    }
    if let Some(home) = files.home(ids.uid) {
        assert!(!home.is_empty() && !home.contains(&b':') && !home.contains(&b'\n'));
    }
    None
}

/// The id of the first line with this name that has two ids.
fn by_hand(passwd: &[u8], name: &[u8]) -> Option<u32> {
    for line in passwd.split(|byte| *byte == b'\n') {
        let fields: Vec<_> = line.trim_ascii().split(|byte| *byte == b':').collect();
        let id = |at: usize| -> Option<u32> {
            let text = std::str::from_utf8(fields.get(at)?).ok()?;
            text.parse::<u64>().ok().filter(|id| *id <= MAX_ID.into())?.try_into().ok()
        };
        if let (true, Some(uid), Some(_)) = (fields[0] == name, id(2), id(3)) {
            return Some(uid);
        }
    }
    None
}
