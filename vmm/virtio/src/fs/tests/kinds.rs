//! Faults that programs met, each as one case of its kind.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{Bytes, GuestAddress};

use super::*;

const MKDIR: u32 = 9;
const LINK: u32 = 13;
const SETATTR: u32 = 4;
const FALLOCATE: u32 = 43;
const LISTXATTR: u32 = 23;
const REMOVEXATTR: u32 = 24;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const READDIRPLUS: u32 = 44;
const SYNCFS: u32 = 50;
const TMPFILE: u32 = 51;

/// Bytes of an entry with attributes in front of its name.
const PLUS: usize = 128;

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Guest {
    fn touch(&self, name: &str) {
        fs::write(self.folder.path().join(name), b"").unwrap();
    }

    /// The names in the share's root and the nodes of those that were looked up.
    fn list(&mut self, operation: u32, size: u32) -> Vec<(String, u64)> {
        let handle = long(&self.call(OPENDIR, 1, &words(&[0, 0])).unwrap(), 0);
        let (mut names, mut offset) = (Vec::new(), 0_u64);
        loop {
            let place = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
            let body = [place, words(&[size, 0, 0, 0, 0, 0])].concat();
            let answer = self.call(operation, 1, &body).unwrap();
            if answer.is_empty() {
                return names;
            }
            let plus = operation == READDIRPLUS;
            let head = usize::from(plus) * PLUS;
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let node = u64::from(plus) * long(rest, 0);
                offset = long(rest, head + 8);
                let len = word(rest, head + 16) as usize;
                let name = rest[head + 24..head + 24 + len].to_vec();
                names.push((String::from_utf8(name).unwrap(), node));
                rest = &rest[(head + 24 + len).next_multiple_of(8)..];
            }
        }
    }
}

#[test]
fn a_link_can_be_made_after_others_have_created() {
    if !root() {
        return;
    }
    let mut guest = Guest::new();
    guest.touch("old");
    let old = guest.lookup(1, "old").unwrap();
    let body = [words(&[0o102, 0o644, 0o22, 0]), b"theirs\0".to_vec()].concat();
    guest.call_as(1234, CREATE, 1, &body).unwrap();
    guest.call_as(1234, LINK, 1, &[&old.to_le_bytes()[..], b"new\0"].concat()).unwrap();
    let metadata = fs::metadata(guest.folder.path().join("new")).unwrap();
    assert_eq!((metadata.nlink(), metadata.uid()), (2, 0));
    // A link of a link is one of the link itself.
    guest.call(SYMLINK, 1, b"link\0nowhere\0").unwrap();
    let link = guest.lookup(1, "link").unwrap();
    guest.call(LINK, 1, &[&link.to_le_bytes()[..], b"link2\0"].concat()).unwrap();
    assert!(fs::symlink_metadata(guest.folder.path().join("link2")).unwrap().is_symlink());
}

#[test]
fn every_name_is_listed_once_with_any_buffer() {
    let mut guest = Guest::new();
    for number in 0..200 {
        guest.touch(&format!("a-name-of-some-length-{number}"));
    }
    for operation in [READDIR, READDIRPLUS] {
        for size in [512, 4096, 65_536] {
            let mut names: Vec<_> =
                guest.list(operation, size).into_iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            assert_eq!((names.len(), &*names[0], &*names[1]), (202, ".", ".."), "{size}");
        }
    }
}

#[test]
fn what_can_not_be_looked_up_is_listed_and_files_are_capped() {
    let mut guest = Guest::new();
    let many = MAX_FILES as usize + 50;
    for number in 0..many {
        guest.touch(&number.to_string());
    }
    // No descriptors are left for the last ones.
    let listed = guest.list(READDIRPLUS, 4096);
    assert_eq!(listed.len(), many + 2);
    let known: Vec<_> = listed.iter().filter(|(_, node)| *node != 0).collect();
    assert!(known.len() < MAX_FILES as usize);
    let unknown = listed.iter().find(|(name, node)| *node == 0 && !name.starts_with('.'));
    assert_eq!(guest.lookup(1, &unknown.unwrap().0), Err(23));
    // What is forgotten makes room.
    for (_, node) in &known {
        let header = guest.header(FORGET, *node, 8, 0);
        let request = [header, 1_u64.to_le_bytes().to_vec()].concat();
        let request = guest.driver.out(&request);
        guest.driver.request(URGENT, &[request]);
    }
    guest.lookup(1, &unknown.unwrap().0).unwrap();
}

#[test]
fn the_umask_is_the_hosts_to_apply() {
    if !root() {
        return;
    }
    let mut guest = Guest::new();
    let body = [words(&[0o777, 0o27]), b"dir\0".to_vec()].concat();
    guest.call(MKDIR, 1, &body).unwrap();
    let mode = fs::metadata(guest.folder.path().join("dir")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn trusted_attributes_are_the_guests_own() {
    if !root() {
        return;
    }
    let mut guest = Guest::new();
    guest.touch("file");
    let file = guest.lookup(1, "file").unwrap();
    let set = |name: &str| [words(&[1, 0, 0, 0]), format!("{name}\0y").into_bytes()].concat();
    guest.call(SETXATTR, file, &set("trusted.overlay.opaque")).unwrap();
    let path = guest.folder.path().join("file");
    let on_host = |name: &str| rustix::fs::getxattr(&path, name, &mut [0_u8; 8][..]);
    assert_eq!(on_host("user.virtiofs.trusted.overlay.opaque"), Ok(1));
    assert!(on_host("trusted.overlay.opaque").is_err());
    let name = "user.virtiofs.trusted.overlay.opaque";
    assert_eq!(guest.call(SETXATTR, file, &set(name)), Err(1));
    let ask = [words(&[64, 0]), b"trusted.overlay.opaque\0".to_vec()].concat();
    assert_eq!(guest.call(GETXATTR, file, &ask).unwrap(), b"y");
}

/// An overlay asks a file without a name whether there are such attributes, and believes the answer
/// for all files.
#[test]
fn trusted_attributes_of_a_file_without_a_name_are_the_guests_own() {
    if !root() {
        return;
    }
    let mut guest = Guest::new();
    let asked = [words(&[2, 0o600, 0, 0]), b"#tmp\0".to_vec()].concat();
    let file = long(&guest.call(TMPFILE, 1, &asked).unwrap(), 0);
    let set = |name: &str| [words(&[1, 0, 0, 0]), format!("{name}\0y").into_bytes()].concat();
    let get = |name: &str| [words(&[64, 0]), format!("{name}\0").into_bytes()].concat();
    let (name, host) = ("trusted.overlay.opaque", "user.virtiofs.trusted.overlay.opaque");
    guest.call(SETXATTR, file, &set(name)).unwrap();
    assert_eq!(guest.call(GETXATTR, file, &get(name)).unwrap(), b"y");
    assert_eq!(guest.call(SETXATTR, file, &set(host)), Err(1));
    assert_eq!(guest.call(GETXATTR, file, &get(host)), Err(61));
    let listed = guest.call(LISTXATTR, file, &words(&[64, 0])).unwrap();
    assert_eq!(listed, format!("{name}\0").as_bytes());
    guest.call(LINK, 1, &[&file.to_le_bytes()[..], b"named\0"].concat()).unwrap();
    let path = guest.folder.path().join("named");
    assert_eq!(rustix::fs::getxattr(&path, host, &mut [0_u8; 8][..]), Ok(1));
    assert!(rustix::fs::getxattr(&path, name, &mut [0_u8; 8][..]).is_err());
    guest.call(REMOVEXATTR, file, format!("{name}\0").as_bytes()).unwrap();
    assert_eq!(guest.call(GETXATTR, file, &get(name)), Err(61));
}

#[test]
fn a_sync_of_the_file_system_is_served() {
    let mut guest = Guest::new();
    guest.call(SYNCFS, 1, &[0; 8]).unwrap();
}

#[test]
fn positions_and_answers_out_of_bounds_are_refused() {
    let mut guest = Guest::new();
    guest.touch("file");
    let file = guest.lookup(1, "file").unwrap();
    let handle = guest.open(file, 2);
    for offset in [u64::MAX, 1 << 63, (1 << 63) - 1] {
        let place = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
        let body = [place, words(&[16, 0, 0, 0, 0, 0])].concat();
        assert_eq!(guest.call(READ, file, &body), Err(22));
        let body = [body, vec![0; 16]].concat();
        assert_eq!(guest.call(WRITE, file, &body), Err(22));
    }
    for operation in [READ, READDIR, READDIRPLUS] {
        let header = guest.header(operation, 1, 40, 0);
        let (header, body) = (guest.driver.out(&header), guest.driver.out(&[0; 40]));
        let small = guest.driver.space(8);
        assert_eq!(guest.driver.request(REQUESTS, &[header, body]), 0);
        assert_eq!(guest.driver.request(REQUESTS, &[header, body, small]), 0);
    }
    assert_eq!(guest.lookup(1, "missing"), Err(2));
}

#[test]
fn content_that_is_made_when_read_is_not_cached() {
    let config = FsConfig { tag: "x".into(), root: "/proc".into(), max_files: MAX_FILES };
    let driver = Driver::ready(super::super::device(&spawner(), &config).unwrap());
    let mut guest = Guest { driver, folder: tempfile::tempdir().unwrap(), unique: 0 };
    guest.init();
    let file = guest.lookup(1, "loadavg").unwrap();
    let open = guest.call(OPEN, file, &words(&[0, 0])).unwrap();
    assert_eq!(word(&open, 8) & 1, 1);
    assert!(!guest.read(file, long(&open, 0), 0, 100).is_empty());
    // For who goes by the size, it is not 0, and believed for no time.
    let told = guest.call(GETATTR, file, &[0; 16]).unwrap();
    assert_eq!((long(&told, 0), word(&told, 8), long(&told, 24)), (0, 0, 64 << 10));
    // Files of disks and of memory are.
    let mut guest = Guest::new();
    guest.touch("empty");
    let file = guest.lookup(1, "empty").unwrap();
    assert_eq!(word(&guest.call(OPEN, file, &words(&[2, 0])).unwrap(), 8) & 1, 0);
    assert_eq!(long(&guest.call(GETATTR, file, &[0; 16]).unwrap(), 24), 0);
}

#[test]
fn a_file_without_a_name_is_kept_until_it_is_forgotten() {
    let mut guest = Guest::new();
    let asked = [words(&[2, 0o640, 0o022, 0]), b"#tmp\0".to_vec()].concat();
    let made = guest.call(TMPFILE, 1, &asked).unwrap();
    let (file, handle) = (long(&made, 0), long(&made, 128));
    let place = [handle.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let write = [place, words(&[4, 0, 0, 0, 0, 0]), b"text".to_vec()].concat();
    assert_eq!(word(&guest.call(WRITE, file, &write).unwrap(), 0), 4);
    assert_eq!(guest.read(file, handle, 0, 9), b"text");
    let told = guest.call(GETATTR, file, &[0; 16]).unwrap();
    // Size, mode and number of links.
    assert_eq!((long(&told, 24), word(&told, 76) & 0o777, word(&told, 80)), (4, 0o640, 0));
    assert!(fs::read_dir(guest.folder.path()).unwrap().next().is_none());
    guest.call(LINK, 1, &[&file.to_le_bytes()[..], b"named\0"].concat()).unwrap();
    assert_eq!(fs::read(guest.folder.path().join("named")).unwrap(), b"text");
    let header = guest.header(FORGET, file, 8, 0);
    let request = guest.driver.out(&[header, 1_u64.to_le_bytes().to_vec()].concat());
    guest.driver.request(URGENT, &[request]);
    assert_eq!(guest.call(GETATTR, file, &[0; 16]), Err(9));
    // One that shall never have a name.
    let asked = [words(&[0o202, 0o600, 0, 0]), b"#tmp\0".to_vec()].concat();
    let file = long(&guest.call(TMPFILE, 1, &asked).unwrap(), 0);
    assert_eq!(guest.call(LINK, 1, &[&file.to_le_bytes()[..], b"never\0"].concat()), Err(2));
    // There are enough of them.
    let header = guest.header(TMPFILE, 1, asked.len(), 0);
    let (header, body) = (guest.driver.out(&header), guest.driver.out(&asked));
    let space = guest.driver.space(256);
    for _ in 0..600 {
        guest.driver.request(REQUESTS, &[header, body, space]);
    }
    assert_eq!(guest.call(TMPFILE, 1, &asked), Err(23));
}

#[test]
fn set_id_bits_go_and_stay_as_on_a_disk() {
    if !root() {
        return;
    }
    let mut guest = Guest::new();
    guest.touch("file");
    let path = guest.folder.path().join("file");
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    let file = guest.lookup(1, "file").unwrap();
    let handle = guest.open(file, 2);
    set(0o6777);
    // Who asks, Linux says only where something is created.
    let nobody = u32::MAX;
    let range = [handle, 0, 100, 0].map(u64::to_le_bytes).concat();
    guest.call_as(nobody, FALLOCATE, file, &range).unwrap();
    assert_eq!(mode(), 0o777);
    // A bit that the group can't use stays.
    set(0o6767);
    let (user, kill) = (1 << 1, 1 << 11);
    let owner = [words(&[user | kill, 0]), vec![0; 48], words(&[0, 0, 0, 0, 0, 5, 0, 0])].concat();
    guest.call_as(nobody, SETATTR, file, &owner).unwrap();
    assert_eq!((mode(), fs::metadata(&path).unwrap().uid()), (0o2767, 5));
    set(0o6777);
    let size = 1 << 3;
    let cut = [words(&[size | kill, 0]), vec![0; 80]].concat();
    guest.call_as(nobody, SETATTR, file, &cut).unwrap();
    assert_eq!(mode(), 0o777);
    let asked = [words(&[2, 0o6755, 0, 0]), b"#tmp\0".to_vec()].concat();
    let made = guest.call(TMPFILE, 1, &asked).unwrap();
    let (file, handle) = (long(&made, 0), long(&made, 128));
    let range = [handle, 0, 100, 0].map(u64::to_le_bytes).concat();
    guest.call_as(nobody, FALLOCATE, file, &range).unwrap();
    let told = guest.call(GETATTR, file, &[0; 16]).unwrap();
    assert_eq!(word(&told, 76) & 0o7777, 0o755);
}

/// A second CPU that makes a request larger while it is looked at.
#[test]
fn a_request_can_not_grow_after_it_was_measured() {
    let mut guest = Guest::new();
    let file = guest.folder.path().join("file");
    fs::write(&file, vec![1; 16 << 20]).unwrap();
    let node = guest.lookup(1, "file").unwrap();
    let handle = guest.open(node, 0);
    let place = [handle.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let body = [place, words(&[16 << 20, 0, 0, 0, 0, 0])].concat();
    let header = guest.header(READ, node, body.len(), 0);
    let (header, body) = (guest.driver.out(&header), guest.driver.out(&body));
    let (first, small) = (guest.driver.space(OUT as u32), guest.driver.space(4096));
    // The descriptor of the data is the last one of the chain.
    let stop = Arc::new(AtomicBool::new(false));
    let (memory, seen) = (guest.driver.memory.clone(), Arc::clone(&stop));
    let at = guest.driver.next_descriptors(REQUESTS, 4)[3] + 8;
    let flip = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            for len in [4096_u32, 16 << 20] {
                memory.write_obj(len, GuestAddress(at)).unwrap();
            }
        }
    });
    for _ in 0..2000 {
        let len = guest.driver.request(REQUESTS, &[header, body, first, small]);
        assert!(len as usize <= MAX_REQUEST, "{len} bytes were moved");
    }
    stop.store(true, Ordering::Relaxed);
    flip.join().unwrap();
}
