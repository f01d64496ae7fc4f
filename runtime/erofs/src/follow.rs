//! Symbolic links above an entry, followed inside the image.
//!
//! Nothing is opened: links are entries of the tree, and `..` never leads above its root.

use crate::disk::NO_BLOCK;
use crate::error::Error;
use crate::tree::{Body, Content, Id, Rest, Tree};

/// Most names that one path may lead through, those in the targets of links included. As many as a
/// path of 4095 bytes can have; links in a circle end here.
const MAX_NAMES: usize = 2048;

impl Tree {
    /// The path without symbolic links above its last name, as [`crate::Writer::follow`] says.
    pub(crate) fn follow(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let mut left: Vec<&[u8]> = names(path).collect();
        left.reverse();
        let mut done: Vec<(&[u8], Option<Id>)> = Vec::new();
        let mut walked = 0;
        while let Some(name) = left.pop() {
            walked += 1;
            if walked > MAX_NAMES {
                return Err(Error::path(path, "leads through too many names and links"));
            }
            if name == b".." {
                done.pop();
                continue;
            }
            let parent = done.last().map_or(Some(Id::ROOT), |(_, id)| *id);
            let id = parent.and_then(|parent| self.child(parent, name));
            let target = id.filter(|_| !left.is_empty()).and_then(|id| self.target(id));
            let Some(target) = target else {
                done.push((name, id));
                continue;
            };
            if target.starts_with(b"/") {
                done.clear();
            }
            let start = left.len();
            left.extend(names(target));
            left.get_mut(start..).unwrap_or_default().reverse();
        }
        let names: Vec<_> = done.into_iter().map(|(name, _)| name).collect();
        Ok(names.join(&b'/'))
    }

    /// What a symbolic link leads to, if that is in memory.
    fn target(&self, id: Id) -> Option<&[u8]> {
        match &self.get(id)?.body {
            Body::Symlink(Content { block: NO_BLOCK, rest: Rest::Tail(target), .. }) => {
                Some(target)
            }
            Body::Symlink(_) | Body::File(_) | Body::Directory(_) | Body::Special(_) => None,
        }
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use crate::{Error, Meta, Options, Writer};

    fn links(all: &[(&str, &str)]) -> Writer<Cursor<Vec<u8>>> {
        let mut writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
        for (path, target) in all {
            writer.symlink(path.as_bytes(), target.as_bytes(), Meta::default()).unwrap();
        }
        writer
    }

    #[test]
    fn links_are_followed_inside_the_image() {
        let writer = links(&[
            ("lib", "usr/lib"),
            ("usr/lib64", "../lib"),
            ("out", "../../../../etc"),
            ("root", "/"),
            ("a/abs", "/usr"),
            ("dangling", "not/there"),
        ]);
        for (path, expected) in [
            ("lib/x", "usr/lib/x"),
            ("usr/lib64/a/b", "usr/lib/a/b"),
            ("out/passwd", "etc/passwd"),
            ("root/root/lib/x", "usr/lib/x"),
            ("a/abs/bin/../x", "usr/x"),
            ("dangling/../x", "not/x"),
            ("lib", "lib"),
            ("./root/lib/", "lib"),
            ("../new/./x", "new/x"),
            ("", ""),
        ] {
            let found = writer.follow(path.as_bytes()).unwrap();
            assert_eq!(found.escape_ascii().to_string(), expected, "{path}");
        }
    }

    #[test]
    fn circles_end() {
        let long = "a/../".repeat(100);
        let writer = links(&[("a", "b"), ("b", "a"), ("c", &format!("{long}c"))]);
        for path in ["a/x", "c/x", &"y/".repeat(2049)] {
            let refused = writer.follow(path.as_bytes());
            assert!(matches!(refused, Err(Error::Path { .. })), "{path}");
        }
        assert_eq!(writer.follow(b"a").unwrap(), b"a");
    }

    #[test]
    fn a_target_that_is_not_in_memory_is_left() {
        let long = "t".repeat(3000);
        let mut writer = links(&[("link", &long)]);
        assert_eq!(writer.follow(b"link/x").unwrap(), b"link/x");
        let refused = writer.directory(b"link/x", Meta::default());
        assert!(matches!(refused, Err(Error::NotADirectory { .. })));
    }
}
