//! What is in files, and what keeps others from it.

use std::fs::File;
use std::io::{Error, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, copy_file_range,
    fallocate, fcntl_lock, flock, fstat, ftruncate, linkat, openat, seek, statvfs,
};

use super::answers::{Answers, GROUP, SOMEBODY, Sequence, by};
use super::memory::Page;

pub(crate) const ALL: &[Sequence] = &[
    ("holes", holes),
    ("sizes", sizes),
    ("appends", appends),
    ("copies", copies),
    ("memory", mapped),
    ("unnamed", unnamed),
    ("locks", locks),
    ("syncs", syncs),
    ("full", full),
];

fn make(answers: &Answers, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).open(answers.at(name)).unwrap()
}

fn sum(file: &File) -> Result<(u64, u64), Error> {
    let mut content = vec![0; usize::try_from(file.metadata()?.len()).map_err(Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    let places = content.iter().zip(1_u64..);
    let sum = places.fold(0_u64, |sum, (byte, at)| sum.wrapping_add(at * u64::from(*byte)));
    Ok((content.len() as u64, sum))
}

fn holes(answers: &mut Answers) {
    let file = make(answers, "file");
    answers.note("begin", file.write_all_at(&[7; 16 << 10], 0));
    answers.note("far", file.write_all_at(&[8; 4096], 1 << 20));
    answers.note("sync", file.sync_all());
    let look = |what: &str| {
        for at in [0, 4096, 8192, 16 << 10, (1 << 20) - 1, 1 << 20, (1 << 20) + 4096, 1 << 30] {
            answers.note(&format!("{what} data {at}"), seek(&file, SeekFrom::Data(at)));
            answers.note(&format!("{what} hole {at}"), seek(&file, SeekFrom::Hole(at)));
        }
        answers.note("content", sum(&file));
        answers.note("blocks", fstat(&file).map(|stat| stat.st_blocks));
    };
    look("first");
    let ways = [
        ("punch", FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 4096),
        ("punch a part", FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 100, 5000),
        ("zero", FallocateFlags::ZERO_RANGE, 8192, 100),
        ("allocate", FallocateFlags::empty(), 16 << 10, 32 << 10),
        ("grow", FallocateFlags::empty(), 1 << 20, 1 << 20),
        ("keep", FallocateFlags::KEEP_SIZE, 4 << 20, 4096),
        ("punch and grow", FallocateFlags::PUNCH_HOLE, 0, 4096),
        ("nothing", FallocateFlags::empty(), 0, 0),
        ("too far", FallocateFlags::empty(), 1 << 62, 1 << 62),
    ];
    for (what, flags, at, len) in ways {
        answers.note(what, fallocate(&file, flags, at, len));
        answers.note("sync", file.sync_all());
        look(what);
    }
}

fn sizes(answers: &mut Answers) {
    let file = make(answers, "file");
    answers.note("write", file.write_all_at(b"0123456789", 0));
    for size in [5, 20, 0, 5 << 30, (1 << 44) + 1, 1 << 62, 3] {
        answers.note(&format!("size {size}"), ftruncate(&file, size));
        answers.look("file", "file");
    }
    answers.note("content", sum(&file));
    answers.note("truncate", rustix::fs::ftruncate(File::open(answers.at("file")).unwrap(), 0));
    answers.note("far", file.write_at(b"end", 5 << 30));
    answers.look("file", "file");
    let mut seen = [1; 8];
    answers.note("there", file.read_at(&mut seen, (5 << 30) - 2).map(|len| (len, seen)));
    answers.note("behind", file.read_at(&mut seen, 6 << 30));
    answers.note("beyond", file.write_at(b"end", (1 << 63) - 2));
    answers.note(
        "read a directory",
        rustix::io::read(File::open(answers.at(".")).unwrap(), &mut seen),
    );
}

fn appends(answers: &mut Answers) {
    let path = answers.at("file");
    let open = || File::options().create(true).append(true).open(&path).unwrap();
    let write = |writer: u8| {
        let mut file = open();
        (0..50).for_each(|_| file.write_all(&[b'a' + writer; 100]).unwrap());
    };
    std::thread::scope(|scope| {
        let write = &write;
        for writer in 0..4 {
            scope.spawn(move || write(writer));
        }
    });
    let content = std::fs::read(&path).unwrap();
    let whole = content.chunks(100).filter(|part| part.iter().all(|byte| *byte == part[0]));
    answers.note("whole", Ok::<_, Error>((content.len(), whole.count())));
    let mut file = open();
    answers.note("place", file.stream_position());
    answers.note("by place", file.write_at(b"zz", 0));
    answers.note("end", file.seek(std::io::SeekFrom::End(0)));
    answers.note("flags", rustix::fs::fcntl_setfl(&file, OFlags::empty()));
    answers.note("at the begin", file.write_at(b"zz", 0));
    answers.note("end", file.seek(std::io::SeekFrom::End(0)));
}

fn copies(answers: &mut Answers) {
    let (from, to) = (make(answers, "from"), make(answers, "to"));
    let content: Vec<_> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    answers.note("write", from.write_all_at(&content, 0));
    let mut copied = 0;
    while copied < content.len() {
        match copy_file_range(&from, None, &to, None, content.len() - copied) {
            Ok(0) | Err(_) => break,
            Ok(len) => copied += len,
        }
    }
    answers.note("copy", Ok::<_, Error>(copied));
    answers.note("content", sum(&to));
    let mut at = 50;
    answers.note("part", copy_file_range(&from, Some(&mut at), &to, Some(&mut 7), 10));
    answers.note("content", sum(&to));
    let within = copy_file_range(&from, Some(&mut 0), &from, Some(&mut 5), 10);
    answers.note("over itself", within);
    let read_only = File::open(answers.at("to")).unwrap();
    answers.note("read only", copy_file_range(&from, Some(&mut 0), &read_only, Some(&mut 0), 10));
    answers.note("std", std::fs::copy(answers.at("from"), answers.at("third")));
    answers.note("content", sum(&File::open(answers.at("third")).unwrap()));
}

fn mapped(answers: &mut Answers) {
    let file = make(answers, "file");
    answers.note("write", file.write_all_at(&[1; 4096], 0));
    let page = Page::new(&file).unwrap();
    let see = |at| {
        let mut byte = [0];
        file.read_at(&mut byte, at).map(|_| byte[0])
    };
    page.set(10, 9);
    answers.note("read after memory", see(10));
    answers.note("write", file.write_at(&[5], 20));
    answers.note("memory after write", Ok::<_, Error>(page.get(20)));
    let other = File::options().read(true).write(true).open(answers.at("file")).unwrap();
    answers.note("other write", other.write_at(&[6], 30));
    answers.note("memory after other", Ok::<_, Error>(page.get(30)));
    let second = Page::new(&other).unwrap();
    page.set(40, 4);
    answers.note("second", Ok::<_, Error>(second.get(40)));
    answers.note("sync", page.sync());
    drop((page, second));
    answers.note("content", sum(&file));
    answers.note("fresh", std::fs::read(answers.at("file")).map(|bytes| bytes[40]));
}

/// Attributes of a file that is open.
fn attributes_of(answers: &Answers, file: &File) {
    for name in ["user.x", "trusted.overlay.opaque", "other.x"] {
        let (mut value, none) = ([0; 8], rustix::fs::XattrFlags::empty());
        answers.note(name, rustix::fs::fsetxattr(file, name, b"v", none));
        answers.note("get", rustix::fs::fgetxattr(file, name, &mut value));
    }
    let mut buffer = [0; 256];
    let listed = rustix::fs::flistxattr(file, &mut buffer);
    answers.note_list("attributes", listed.map(|len| &buffer[..len]));
}

/// Files without a name.
fn unnamed(answers: &mut Answers) {
    let dir = answers.at(".");
    let open = |flags| openat(CWD, &dir, OFlags::TMPFILE | flags, Mode::from_raw_mode(0o640));
    answers.note("read only", open(OFlags::RDONLY).map(drop));
    answers.note("exclusive", open(OFlags::RDWR | OFlags::EXCL).map(drop));
    let keep = |file: &std::os::fd::OwnedFd, name: &str| {
        let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let linked = linkat(CWD, from, CWD, answers.at(name), AtFlags::SYMLINK_FOLLOW);
        answers.note(name, linked);
        answers.look(name, name);
    };
    match open(OFlags::RDWR) {
        Ok(file) => {
            let file = File::from(file);
            answers.note("write", file.write_all_at(b"without a name", 0));
            let stat = |file: &File| {
                fstat(file).map(|stat| (stat.st_mode, stat.st_nlink, stat.st_size, stat.st_uid))
            };
            answers.note("stat", stat(&file));
            answers.note("chmod", rustix::fs::fchmod(&file, Mode::from_raw_mode(0o604)));
            answers.note(
                "chown",
                rustix::fs::fchown(&file, Some(rustix::process::Uid::from_raw(9)), None),
            );
            answers.note("cut", ftruncate(&file, 10));
            attributes_of(answers, &file);
            answers.note("sync", file.sync_all());
            let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            answers.note("opened again", std::fs::read_to_string(again));
            answers.note("stat", stat(&file));
            let file = file.into();
            keep(&file, "kept");
            answers.note("links", fstat(&file).map(|stat| stat.st_nlink));
            keep(&file, "kept twice");
            answers.note("content", std::fs::read_to_string(answers.at("kept")));
            let file = File::from(file);
            answers.note("write", file.write_all_at(b"W", 0));
            answers.note("content", std::fs::read_to_string(answers.at("kept")));
            answers.note("stat", stat(&file));
        }
        Err(error) => answers.note("open", Err::<(), _>(error)),
    }
    if let Ok(file) = open(OFlags::WRONLY | OFlags::EXCL) {
        keep(&file, "not kept");
    }
    std::os::unix::fs::chown(answers.at("."), None, Some(GROUP)).unwrap();
    by(SOMEBODY, &[SOMEBODY], || {
        answers.note("not theirs", open(OFlags::RDWR).map(drop));
    });
    rustix::fs::chmod(answers.at("."), Mode::from_raw_mode(0o2777)).unwrap();
    by(SOMEBODY, &[SOMEBODY], || {
        if let Ok(file) = open(OFlags::RDWR) {
            keep(&file, "theirs");
        }
    });
}

fn locks(answers: &mut Answers) {
    let (one, other) = (make(answers, "file"), make(answers, "file"));
    let ways = [
        ("shared", FlockOperation::NonBlockingLockShared),
        ("exclusive", FlockOperation::NonBlockingLockExclusive),
        ("unlock", FlockOperation::NonBlockingUnlock),
    ];
    for (first, how) in ways {
        answers.note(first, flock(&one, how));
        for (second, how) in ways {
            answers.note(&format!("{first} {second}"), flock(&other, how));
        }
    }
    for (first, how) in ways {
        answers.note(&format!("range {first}"), fcntl_lock(&one, how));
        answers.note("same process", fcntl_lock(&other, how));
    }
    let read_only = File::open(answers.at("file")).unwrap();
    answers.note("not writable", fcntl_lock(&read_only, FlockOperation::NonBlockingLockExclusive));
    answers.note("flock", flock(&read_only, FlockOperation::NonBlockingLockExclusive));
}

fn syncs(answers: &mut Answers) {
    let file = make(answers, "file");
    answers.note("write", file.write_all_at(&[3; 100_000], 0));
    answers.note("data", file.sync_data());
    answers.note("all", file.sync_all());
    answers.note("file system", rustix::fs::syncfs(&file));
    answers.note("directory", File::open(answers.at(".")).unwrap().sync_all());
    let told = statvfs(answers.at("file"));
    answers.note(
        "stat",
        told.map(|told| (told.f_bsize, told.f_frsize, told.f_namemax, told.f_blocks, told.f_files)),
    );
}

/// No room: what is answered, and that there is room again.
fn full(answers: &mut Answers) {
    let file = make(answers, "file");
    let part = vec![1; 1 << 20];
    let error = (0..200).find_map(|number| file.write_all_at(&part, number << 20).err());
    answers.note("full", Err::<(), _>(error.unwrap_or_else(|| Error::other("never full"))));
    answers.note("allocate", fallocate(&file, FallocateFlags::empty(), 0, 1 << 30));
    answers.note("make room", ftruncate(&file, 0));
    answers.note("sync", rustix::fs::syncfs(&file));
    answers.note("again", file.write_all_at(&part, 0));
    answers.note("sync", file.sync_all());
    answers.note("remove", std::fs::remove_file(answers.at("file")));
}
