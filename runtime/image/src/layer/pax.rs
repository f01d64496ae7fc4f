//! PAX headers: what the tar library leaves out, or would take although it is wrong.
//!
//! The library ignores numbers that are none, so that archives with times before 1970 pass. The
//! records are therefore read once more.

use erofs::{Mtime, Xattrs};

use super::error::{EntryProblem, shown};
use super::number::decimal;

/// Before the name of an extended attribute. Its value has any bytes.
const XATTR: &[u8] = b"SCHILY.xattr.";

const NANOSECONDS: u32 = 1_000_000_000;

/// What the records of one entry say.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) mtime: Option<Mtime>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) size: Option<u64>,
    /// Version of the format of a sparse file.
    pub(super) sparse: [Option<u64>; 2],
    pub(super) xattrs: Xattrs,
    /// Names of attributes that the image does not get.
    pub(super) dropped: Vec<Vec<u8>>,
}

impl Pax {
    /// Reads the records. The last one with a key counts; one without a value says nothing, as in
    /// Go's `archive/tar`.
    ///
    /// # Errors
    /// [`EntryProblem`].
    pub(super) fn new(mut records: &[u8]) -> Result<Self, EntryProblem> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or(EntryProblem::Pax)?;
            records = rest;
            pax.take(key, value)?;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.take_xattr(name, value);
        }
        let field = match key {
            b"size" => "size",
            b"uid" => "user id",
            b"gid" => "group id",
            b"mtime" => "time",
            _ if key.starts_with(b"GNU.sparse.") => "number of a sparse file",
            _ => return Ok(()),
        };
        // Neither is a number.
        if value.is_empty() || matches!(key, b"GNU.sparse.name" | b"GNU.sparse.map") {
            return Ok(());
        }
        let wrong = || EntryProblem::Number { field, value: shown(value) };
        if key == b"mtime" {
            self.mtime = Some(mtime(value).ok_or_else(wrong)?);
            return Ok(());
        }
        let number = Some(decimal(value).ok_or_else(wrong)?);
        match key {
            b"size" => self.size = number,
            b"uid" => self.uid = number,
            b"gid" => self.gid = number,
            b"GNU.sparse.major" => self.sparse[0] = number,
            b"GNU.sparse.minor" => self.sparse[1] = number,
            _ => {}
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        if !is_kept(name) {
            self.dropped.push(name.to_vec());
            return Ok(());
        }
        let refused = |error: erofs::Error| EntryProblem::Xattr(error.to_string());
        self.xattrs.set(name, value).map_err(refused)
    }
}

/// Whether an image gets an attribute of that name.
///
/// Overlayfs obeys `trusted.overlay.*`, and `user.overlay.*` where it is mounted by users: a layer
/// that could set them would decide about other layers. Nothing else needs `trusted.*`. What is not
/// of the other name spaces can't be kept; containerd leaves it out too.
fn is_kept(name: &[u8]) -> bool {
    let whole = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    whole || user || name.starts_with(b"security.")
}

/// The first record, `LENGTH KEY=VALUE\n`: its key, its value, and what follows it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = records.iter().position(|&byte| byte == b' ')?;
    let len = usize::try_from(decimal(records.get(..digits)?)?).ok()?;
    let (record, rest) = records.split_at_checked(len)?;
    let pair = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|&byte| byte == b'=').filter(|at| *at > 0)?;
    Some((pair.get(..equals)?, pair.get(equals + 1..)?, rest))
}

/// A time in seconds, with a fraction of any length and perhaps a sign.
fn mtime(text: &[u8]) -> Option<Mtime> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !is_number(digits) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let fraction = fraction.get(..9).unwrap_or(fraction);
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        let nanoseconds = NANOSECONDS - nanoseconds;
        return Some(Mtime { seconds: seconds.checked_sub(1)?, nanoseconds });
    }
    Some(Mtime { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_signs_and_fractions() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("1.0000000009", 1, 0),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.1", -1, 900_000_000),
        ] {
            assert_eq!(mtime(text.as_bytes()), Some(Mtime { seconds, nanoseconds }), "{text}");
        }
        for text in ["", "-", ".5", "+1", "1.x", "1.-5", "1e3", "--1", "9223372036854775808"] {
            assert_eq!(mtime(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn records_are_as_long_as_they_say() {
        let pax =
            Pax::new(b"14 mtime=-1.5\n10 uid=12\n7 uid=\n25 SCHILY.xattr.user.a==\n").unwrap();
        assert_eq!(pax.mtime, Some(Mtime { seconds: -2, nanoseconds: 500_000_000 }));
        assert_eq!(pax.uid, Some(12));
        assert_ne!(pax.xattrs, Xattrs::default());
        for wrong in ["x", "5 a=\n\0", "8 uid=12\n", "99 uid=1\n", "4 =\n", "5 ab\n", "-1 a=\n"] {
            assert_eq!(Pax::new(wrong.as_bytes()).unwrap_err(), EntryProblem::Pax, "{wrong}");
        }
        for wrong in ["11 size=-1\n", "11 uid=1x2\n", "11 mtime=x\n", "24 GNU.sparse.major=1.0\n"] {
            let problem = Pax::new(wrong.as_bytes()).unwrap_err();
            assert!(matches!(problem, EntryProblem::Number { .. }), "{wrong}: {problem}");
        }
    }

    #[test]
    fn layers_decide_nothing_about_overlays() {
        for name in
            ["trusted.overlay.opaque", "trusted.x", "user.overlay.whiteout", "system.nfs4_acl"]
        {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
        for name in ["user.overlayx", "security.capability", "system.posix_acl_access"] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
    }
}
