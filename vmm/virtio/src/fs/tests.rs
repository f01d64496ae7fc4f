//! The shared directory, end to end: FUSE requests through a window, files on the host.
//!
//! Only as much protocol as shows that requests and answers pass; what the library does with
//! each of them is its own tests' matter.

mod kinds;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::fake_driver::{Driver, Piece};

const URGENT: usize = 0;
const REQUESTS: usize = 1;
/// Files that a guest of these tests may have.
const MAX_FILES: u64 = 500;
/// Bytes of a request's and of an answer's header.
const IN: usize = 40;
const OUT: usize = 16;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SYMLINK: u32 = 6;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const INIT: u32 = 26;
const CREATE: u32 = 35;
const IOCTL: u32 = 39;

struct Guest {
    driver: Driver,
    folder: tempfile::TempDir,
    unique: u64,
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn long(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// Threads with a umask and a working directory of their own. A VMM has one share; here, many
/// threads of one process change both for a moment.
fn spawner() -> Spawner {
    Spawner::new(|_| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?))
}

impl Guest {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let root = folder.path().to_owned();
        let config = FsConfig { tag: "share".into(), root, max_files: MAX_FILES };
        let driver = Driver::ready(super::device(&spawner(), &config).unwrap());
        let mut guest = Self { driver, folder, unique: 0 };
        guest.init();
        guest
    }

    fn init(&mut self) {
        // Version 7.38, all options of the first 31, and supplementary groups (34).
        let mut body = words(&[7, 38, 1 << 20, 0x7fff_ffff, 1 << 2]);
        body.resize(64, 0);
        let answer = self.call(INIT, 0, &body).unwrap();
        assert_eq!(word(&answer, 0), 7);
        // Requests of a megabyte (max_write, max_pages), not of a page.
        assert_eq!(word(&answer, 20), 1 << 20);
        assert_eq!(answer[28..30], 256_u16.to_le_bytes());
    }

    fn header(&mut self, operation: u32, node: u64, len: usize, user: u32) -> Vec<u8> {
        self.unique += 1;
        let len = u32::try_from(IN + len).unwrap();
        let ids = [self.unique.to_le_bytes(), node.to_le_bytes()].concat();
        [words(&[len, operation]), ids, words(&[user, user, 1, 0])].concat()
    }

    /// Sends a request and returns the answer's body, or its error number.
    fn call(&mut self, operation: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.call_as(0, operation, node, body)
    }

    fn call_as(
        &mut self,
        user: u32,
        operation: u32,
        node: u64,
        body: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let header = self.header(operation, node, body.len(), user);
        let mark = self.driver.mark();
        let (header, body) = (self.driver.out(&header), self.driver.out(body));
        let (first, rest) = (self.driver.space(OUT as u32), self.driver.space(70_000));
        let len = self.driver.request(REQUESTS, &[header, body, first, rest]);
        let answer = self.driver.bytes(first);
        assert_eq!((word(&answer, 0), long(&answer, 8)), (len, self.unique));
        let body = self.driver.bytes(Piece { len: len - OUT as u32, ..rest });
        self.driver.give_back(mark);
        match word(&answer, 4) as i32 {
            0 => Ok(body),
            error => Err(-error),
        }
    }

    fn lookup(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        let entry = self.call(LOOKUP, parent, format!("{name}\0").as_bytes())?;
        Ok(long(&entry, 0))
    }

    fn open(&mut self, node: u64, flags: u32) -> u64 {
        long(&self.call(OPEN, node, &words(&[flags, 0])).unwrap(), 0)
    }

    fn read(&mut self, node: u64, handle: u64, offset: u64, size: u32) -> Vec<u8> {
        let place = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
        self.call(READ, node, &[place, words(&[size, 0, 0, 0, 0, 0])].concat()).unwrap()
    }
}

#[test]
fn the_tag_is_shown() {
    let guest = Guest::new();
    let words = [0x100, 0x104, 0x124].map(|register| guest.driver.read(register).to_le_bytes());
    assert_eq!(words, [*b"shar", *b"e\0\0\0", [1, 0, 0, 0]]);
}

#[test]
fn a_file_is_found_and_read() {
    let mut guest = Guest::new();
    let bytes: Vec<u8> = (0..50_000_u32).map(|number| (number % 247) as u8).collect();
    fs::create_dir(guest.folder.path().join("dir")).unwrap();
    fs::write(guest.folder.path().join("dir/file"), &bytes).unwrap();
    let dir = guest.lookup(1, "dir").unwrap();
    let file = guest.lookup(dir, "file").unwrap();
    let handle = guest.open(file, 0);
    assert_eq!(guest.read(file, handle, 0, 65_536), bytes);
    assert_eq!(guest.read(file, handle, 49_990, 100), bytes[49_990..]);
    assert_eq!(guest.lookup(1, "missing"), Err(2));
    let attributes = guest.call(GETATTR, file, &[0; 16]).unwrap();
    assert_eq!(long(&attributes, 24), 50_000);
}

#[test]
fn files_are_created_as_the_asking_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut guest = Guest::new();
    let body = [words(&[0o102, 0o644, 0o22, 0]), b"new\0".to_vec()].concat();
    let entry = guest.call_as(1234, CREATE, 1, &body).unwrap();
    let (node, handle) = (long(&entry, 0), long(&entry, 128));
    let place = [handle.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let body = [place, words(&[5, 0, 0, 0, 0, 0]), b"hello".to_vec()].concat();
    assert_eq!(word(&guest.call(WRITE, node, &body).unwrap(), 0), 5);
    let path = guest.folder.path().join("new");
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (1234, 1234, 0o644));
}

#[test]
fn a_supplementary_group_is_enough_to_create() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    const MKDIR: u32 = 9;
    let mut guest = Guest::new();
    for (name, mode, group) in [("plain", 0o770, 1234), ("inherited", 0o2770, 555)] {
        let path = guest.folder.path().join(name);
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(555)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let folder = guest.lookup(1, name).unwrap();
        let body = [words(&[0o102, 0o4755, 0o22, 0]), b"new\0".to_vec()].concat();
        let entry = guest.call_as(1234, CREATE, folder, &body).unwrap();
        let body = [words(&[0o755, 0o22]), b"dir\0".to_vec()].concat();
        guest.call_as(1234, MKDIR, folder, &body).unwrap();
        guest.call_as(1234, SYMLINK, folder, b"link\0new\0").unwrap();
        for made in ["new", "dir", "link"] {
            let metadata = fs::symlink_metadata(path.join(made)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1234, group), "{name}/{made}");
        }
        let metadata = fs::metadata(path.join("new")).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o4755);
        // The answer shows the owner too: after 40 bytes of entry and 76 of attributes' head.
        assert_eq!((word(&entry, 40 + 68), word(&entry, 40 + 72)), (1234, group));
        // What is there already keeps its owner.
        fs::write(path.join("theirs"), b"").unwrap();
        fs::set_permissions(path.join("theirs"), fs::Permissions::from_mode(0o600)).unwrap();
        let body = [words(&[0o102, 0o644, 0o22, 0]), b"theirs\0".to_vec()].concat();
        assert_eq!(guest.call_as(1234, CREATE, folder, &body), Err(13));
        assert_eq!(fs::metadata(path.join("theirs")).unwrap().uid(), 0);
    }
}

#[test]
fn extended_attributes_pass_and_are_capped() {
    let mut guest = Guest::new();
    fs::write(guest.folder.path().join("file"), b"").unwrap();
    let file = guest.lookup(1, "file").unwrap();
    let body = [words(&[3, 0, 0, 0]), b"user.key\0abc".to_vec()].concat();
    guest.call(SETXATTR, file, &body).unwrap();
    let ask = |size| [words(&[size, 0]), b"user.key\0".to_vec()].concat();
    assert_eq!(guest.call(GETXATTR, file, &ask(u32::MAX)), Err(12));
    assert_eq!(guest.call(GETXATTR, file, &ask(1 << 20)).unwrap(), b"abc");
    assert_eq!(word(&guest.call(GETXATTR, file, &ask(0)).unwrap(), 0), 3);
    assert_eq!(guest.call(GETXATTR, file, &ask(1)), Err(34));
}

#[test]
fn the_share_can_not_be_left() {
    let mut guest = Guest::new();
    fs::create_dir(guest.folder.path().join("dir")).unwrap();
    let dir = guest.lookup(1, "dir").unwrap();
    assert_eq!(guest.lookup(1, ".."), Err(22));
    assert_eq!(guest.lookup(dir, ".."), Err(22));
    assert_eq!(guest.lookup(1, "../etc"), Err(22));
    assert_eq!(guest.lookup(1, "dir/.."), Err(22));
    // A link is the guest's to follow, never the host's.
    guest.call(SYMLINK, 1, b"link\0/etc\0").unwrap();
    let link = guest.lookup(1, "link").unwrap();
    assert!(guest.lookup(link, "passwd").is_err());
}

#[test]
fn urgent_requests_have_no_answer() {
    let mut guest = Guest::new();
    fs::write(guest.folder.path().join("file"), b"").unwrap();
    let file = guest.lookup(1, "file").unwrap();
    let header = guest.header(FORGET, file, 8, 0);
    let request = guest.driver.out(&[header, 1_u64.to_le_bytes().to_vec()].concat());
    assert_eq!(guest.driver.request(URGENT, &[request]), 0);
    assert_eq!(guest.call(GETATTR, file, &[0; 16]), Err(9));
}

#[test]
fn broken_requests_are_given_back() {
    let mut guest = Guest::new();
    let half = guest.driver.out(&[0; 10]);
    let room = guest.driver.space(100);
    guest.driver.request(REQUESTS, &[half, room]);
    guest.driver.request(REQUESTS, &[room]);
    let long = guest.header(LOOKUP, 1, 1 << 30, 0);
    let long = guest.driver.out(&long);
    guest.driver.request(REQUESTS, &[long, room]);
    let outside = Piece { address: 1 << 40, len: 4096, writable: true };
    let lookup = guest.header(LOOKUP, 1, 2, 0);
    let lookup = guest.driver.out(&lookup);
    assert_eq!(guest.driver.request(REQUESTS, &[lookup, outside]), 0);
    assert_eq!(guest.call(4095, 1, &[]), Err(38));
    assert_eq!(guest.call(READ, 99, &[0; 40]), Err(9));
    assert_eq!(guest.lookup(1, "missing"), Err(2));
}

#[test]
fn a_reset_forgets_what_was_open() {
    let mut guest = Guest::new();
    fs::write(guest.folder.path().join("file"), b"content").unwrap();
    let file = guest.lookup(1, "file").unwrap();
    guest.driver.negotiate(u64::MAX);
    guest.init();
    assert_eq!(guest.call(GETATTR, file, &[0; 16]), Err(9));
    let file = guest.lookup(1, "file").unwrap();
    let handle = guest.open(file, 0);
    assert_eq!(guest.read(file, handle, 0, 100), b"content");
}

#[test]
fn a_missing_directory_is_an_error() {
    let config = FsConfig { tag: "x".into(), root: "/nonexistent/share".into(), max_files: 9 };
    assert!(matches!(super::device(&spawner(), &config), Err(DeviceError::Host { .. })));
}

#[test]
fn a_guest_has_only_its_own_share_of_descriptors() {
    let mut guest = Guest::new();
    fs::write(guest.folder.path().join("file"), "").unwrap();
    let node = guest.lookup(1, "file").unwrap();
    let mut open = Vec::new();
    let error = loop {
        match guest.call(OPEN, node, &words(&[0, 0])) {
            Ok(answer) => open.push(long(&answer, 0)),
            Err(error) => break error,
        }
        assert!(open.len() as u64 <= MAX_FILES, "more than {MAX_FILES} files");
    };
    // ENFILE.
    assert_eq!(error, 23);
    assert!(open.len() as u64 > MAX_FILES / 2, "only {} files", open.len());
    // The process has descriptors left for everything else, and the guest again once it closes.
    File::open(guest.folder.path().join("file")).unwrap();
    let body = [open[0].to_le_bytes().to_vec(), words(&[0; 4])].concat();
    guest.call(RELEASE, node, &body).unwrap();
    guest.call(OPEN, node, &words(&[0, 0])).unwrap();
}

#[test]
fn what_a_request_brings_along_is_limited() {
    let mut guest = Guest::new();
    let mut ioctl = |size: u32, repeats: usize| {
        let header = guest.header(IOCTL, 1, 32, 0);
        let header = guest.driver.out(&header);
        let arguments = guest.driver.out(&words(&[0, 0, 0, 0, 0, 0, size * repeats as u32, 0]));
        let data = guest.driver.out(&vec![0; size as usize]);
        let answer = guest.driver.space(OUT as u32);
        let pieces = [vec![header, arguments], vec![data; repeats], vec![answer]].concat();
        guest.driver.request(REQUESTS, &pieces)
    };
    // Answered with an error, as it should be.
    assert_eq!(ioctl(1 << 20, 1), OUT as u32);
    assert_eq!(ioctl(1 << 20, 200), 0);
    // The next request is served.
    assert_eq!(guest.lookup(1, "missing"), Err(2));
}
