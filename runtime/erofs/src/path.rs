//! Paths of entries, which strangers choose.

use crate::error::Error;

/// Longest name in a directory, in bytes (`EROFS_NAME_LEN`).
const MAX_NAME: usize = 255;

/// Longest path in bytes: Linux's `PATH_MAX` without its zero byte. No longer one can be opened.
const MAX_PATH: usize = 4095;

/// The names that lead from the root of the image to an entry; none: it is the root.
///
/// Empty names and `.` are left out. `..` takes the last name back by the text alone: no link is
/// followed, and above the root is the root.
///
/// # Errors
/// [`Error::Path`] if the path or a name is too long, or has a zero byte.
pub(crate) fn names(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if path.len() > MAX_PATH {
        return Err(Error::path(path, "is longer than 4095 bytes"));
    }
    if path.contains(&0) {
        return Err(Error::path(path, "has a zero byte"));
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name if name.len() > MAX_NAME => {
                return Err(Error::path(path, "has a name of more than 255 bytes"));
            }
            name => names.push(name),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_tree() {
        let joined = |path: &[u8]| names(path).unwrap().join(&b'/');
        assert_eq!(joined(b"/a//./b/"), b"a/b");
        assert_eq!(joined(b"./a/../../../b/.."), b"");
        assert_eq!(joined(b"../../etc/passwd"), b"etc/passwd");
        assert_eq!(joined(b"a/.../..b"), b"a/.../..b");
        assert_eq!(joined(b""), b"");
    }

    #[test]
    fn impossible_paths_are_refused() {
        assert!(names(b"a/\0/b").is_err());
        assert!(names(&[b'a'; 255]).is_ok());
        assert!(names(&[b'a'; 256]).is_err());
        assert!(names(&b"a/".repeat(2047)).is_ok());
        assert!(names(&b"a/".repeat(2048)).is_err());
    }
}
