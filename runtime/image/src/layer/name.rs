//! What a path of the archive stands for: an entry, or a mark of what lower layers lose (OCI image
//! specification, "layer.md", "Whiteouts").

use super::error::EntryProblem;

/// Before the name of what is hidden.
const WHITEOUT: &[u8] = b".wh.";

/// Before the names of AUFS' own files. No layer means them.
const META: &[u8] = b".wh..wh.";

/// Hides all that lower layers have in the directory that it is in.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a path stands for. Paths are relative to the root, without `.`, `..` and empty names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The root itself.
    Root,
    /// A path below it.
    Entry(Vec<u8>),
    /// A name that lower layers lose.
    Whiteout(Vec<u8>),
    /// The mark of an opaque directory: its path with the mark's name.
    Opaque(Vec<u8>),
    /// Nothing of the layer.
    LeftOut,
}

impl Place {
    /// Reads a path. `..` takes the name before it back by the text alone, as in containerd.
    ///
    /// # Errors
    /// [`EntryProblem::Whiteout`].
    pub(super) fn new(path: &[u8]) -> Result<Self, EntryProblem> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let Some((last, above)) = names.split_last() else { return Ok(Self::Root) };
        if above.iter().any(|name| name.starts_with(META)) {
            return Ok(Self::LeftOut);
        }
        if *last == OPAQUE {
            return Ok(Self::Opaque(names.join(&b'/')));
        }
        if last.starts_with(META) {
            return Ok(Self::LeftOut);
        }
        match last.strip_prefix(WHITEOUT) {
            None => Ok(Self::Entry(names.join(&b'/'))),
            Some(b"" | b"." | b"..") => Err(EntryProblem::Whiteout),
            Some(hidden) => Ok(Self::Whiteout([above, &[hidden]].concat().join(&b'/'))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_entries_or_marks() {
        let entry = |path: &str| Ok(Place::Entry(path.into()));
        let whiteout = |path: &str| Ok(Place::Whiteout(path.into()));
        for (path, expected) in [
            ("./", Ok(Place::Root)),
            ("a/..", Ok(Place::Root)),
            ("/../../a/./b//", entry("a/b")),
            ("a/.wh.x/b", entry("a/.wh.x/b")),
            ("a/.whx", entry("a/.whx")),
            (".wh.a", whiteout("a")),
            ("a/b/.wh...c/", whiteout("a/b/..c")),
            ("a/.wh..wh..opq", Ok(Place::Opaque(b"a/.wh..wh..opq".to_vec()))),
            (".wh..wh..opq", Ok(Place::Opaque(b".wh..wh..opq".to_vec()))),
            (".wh..wh.plnk", Ok(Place::LeftOut)),
            (".wh..wh.plnk/12.34", Ok(Place::LeftOut)),
            ("a/.wh..wh..opq/b", Ok(Place::LeftOut)),
            ("a/.wh.", Err(EntryProblem::Whiteout)),
            ("a/.wh..", Err(EntryProblem::Whiteout)),
            ("a/.wh...", Err(EntryProblem::Whiteout)),
        ] {
            assert_eq!(Place::new(path.as_bytes()), expected, "{path}");
        }
    }
}
