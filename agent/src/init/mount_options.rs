//! `mounts[].options`: words of mount(8) to what the kernel's mount calls take. Pure.

use oci_spec::runtime::Mount;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use syscalls::mount::MountAttributes;

use crate::oci::kind_of;

pub(super) const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub(super) const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
pub(super) const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub(super) const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const ATIME_MASK: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;
const RELATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RELATIME;
const NOATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOATIME;
const STRICTATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;

/// A mount's options, sorted by who acts on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// For the mount itself.
    pub(super) own: MountAttributes,
    /// For the mount and all below it.
    pub(super) recursive: MountAttributes,
    /// Propagation, with whether it applies to all mounts below too; in order.
    pub(super) propagation: Vec<(MountPropagationFlags, bool)>,
    /// A bind mount, with whether mounts below the source come along.
    pub(super) bind: Option<bool>,
    /// Copy what the mount hides into it.
    pub(super) copy_up: bool,
    /// Map ids, with whether in all mounts below too.
    pub(super) idmap: Option<bool>,
    /// Parameters of the filesystem: flags and values.
    pub(super) data: Vec<(String, Option<String>)>,
}

enum Word {
    Set(MountAttrFlags),
    Clear(MountAttrFlags),
    Atime(MountAttrFlags),
    Nothing,
}

/// The options of a mount; one of type `bind` is one without saying so again.
pub(super) fn options_of(mount: &Mount) -> Options {
    let mut options = parse(mount.options().as_deref().unwrap_or_default());
    if kind_of(mount) == "bind" {
        options.bind = options.bind.or(Some(false));
    }
    options
}

/// Sorts the options.
pub(super) fn parse(words: &[String]) -> Options {
    let mut options = Options::default();
    for word in words {
        if !parse_special(word, &mut options) && !parse_attribute(word, &mut options) {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            options.data.push((key.to_owned(), value));
        }
    }
    options
}

fn parse_special(word: &str, options: &mut Options) -> bool {
    match word {
        "bind" => options.bind = Some(options.bind.unwrap_or(false)),
        "rbind" => options.bind = Some(true),
        "private" => options.propagation.push((MountPropagationFlags::PRIVATE, false)),
        "rprivate" => options.propagation.push((MountPropagationFlags::PRIVATE, true)),
        "slave" => options.propagation.push((MountPropagationFlags::DOWNSTREAM, false)),
        "rslave" => options.propagation.push((MountPropagationFlags::DOWNSTREAM, true)),
        "shared" => options.propagation.push((MountPropagationFlags::SHARED, false)),
        "rshared" => options.propagation.push((MountPropagationFlags::SHARED, true)),
        "unbindable" => options.propagation.push((MountPropagationFlags::UNBINDABLE, false)),
        "runbindable" => options.propagation.push((MountPropagationFlags::UNBINDABLE, true)),
        "tmpcopyup" => options.copy_up = true,
        "idmap" => options.idmap = Some(false),
        "ridmap" => options.idmap = Some(true),
        _ => return false,
    }
    true
}

fn attribute(word: &str) -> Option<Word> {
    Some(match word {
        "ro" => Word::Set(RDONLY),
        "rw" => Word::Clear(RDONLY),
        "nosuid" => Word::Set(NOSUID),
        "suid" => Word::Clear(NOSUID),
        "nodev" => Word::Set(NODEV),
        "dev" => Word::Clear(NODEV),
        "noexec" => Word::Set(NOEXEC),
        "exec" => Word::Clear(NOEXEC),
        "nodiratime" => Word::Set(NODIRATIME),
        "diratime" => Word::Clear(NODIRATIME),
        "nosymfollow" => Word::Set(NOSYMFOLLOW),
        "symfollow" => Word::Clear(NOSYMFOLLOW),
        "relatime" | "atime" | "nostrictatime" => Word::Atime(RELATIME),
        "noatime" => Word::Atime(NOATIME),
        "strictatime" | "norelatime" => Word::Atime(STRICTATIME),
        "defaults" => Word::Nothing,
        _ => return None,
    })
}

fn parse_attribute(word: &str, options: &mut Options) -> bool {
    if let Some(found) = attribute(word) {
        apply(&mut options.own, &found);
        return true;
    }
    // `rro`, `rnosuid`, …: the same for all mounts below. `relatime` was found above.
    if let Some(found) = word.strip_prefix('r').and_then(attribute) {
        apply(&mut options.recursive, &found);
        return true;
    }
    false
}

/// A later word overrides an earlier one.
fn apply(attributes: &mut MountAttributes, word: &Word) {
    match *word {
        Word::Set(flag) => {
            attributes.set |= flag;
            attributes.clear &= !flag;
        }
        Word::Clear(flag) => {
            attributes.clear |= flag;
            attributes.set &= !flag;
        }
        Word::Atime(flag) => {
            attributes.set = (attributes.set & !ATIME_MASK) | flag;
            attributes.clear |= ATIME_MASK;
        }
        Word::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let options = parse(&words("nosuid,strictatime,mode=755,size=65536k,newinstance"));
        assert_eq!(options.own.set, NOSUID | STRICTATIME);
        assert_eq!(options.own.clear, ATIME_MASK);
        assert_eq!(options.data.len(), 3);
        assert_eq!(options.data[0], ("mode".to_owned(), Some("755".to_owned())));
        assert_eq!(options.data[2], ("newinstance".to_owned(), None));
    }

    #[test]
    fn recursive_words_are_kept_apart_from_plain_ones() {
        let options = parse(&words("rbind,rro,rnosuid,relatime,rprivate"));
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.recursive.set, RDONLY | NOSUID);
        assert_eq!(options.own.set, MountAttrFlags::empty());
        assert_eq!(options.propagation, [(MountPropagationFlags::PRIVATE, true)]);
        assert!(options.data.is_empty());
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(parse(&words("ro,rw")).own.set, MountAttrFlags::empty());
        assert_eq!(parse(&words("rw,ro,nodev,noexec")).own.set, RDONLY | NODEV | NOEXEC);
        assert_eq!(parse(&words("ro,rw")).own.clear, RDONLY);
    }
}
