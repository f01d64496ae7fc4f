//! Directories that change while they are listed.

use std::collections::BTreeSet;
use std::fs::File;
use std::mem::MaybeUninit;

use rustix::fs::{AtFlags, CWD, Mode, RawDir, SeekFrom, mkdirat, seek, statat, unlinkat};

use super::answers::{Answers, Sequence};

pub(crate) const ALL: &[Sequence] = &[
    ("small", small),
    ("large", large),
    ("removal", removal),
    ("churn", churn),
    ("places", places),
];

/// Names with the position behind each, by a buffer of `size` bytes.
fn list(dir: &File, size: usize) -> rustix::io::Result<Vec<(String, u64)>> {
    let mut buffer = vec![MaybeUninit::uninit(); size];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push((entry.file_name().to_string_lossy().into_owned(), entry.next_entry_cookie()));
    }
    Ok(names)
}

fn fill(answers: &Answers, count: usize) {
    for number in 0..count {
        File::create(answers.at(&format!("a-name-of-some-length-{number:05}"))).unwrap();
    }
}

fn sorted(names: Vec<(String, u64)>) -> Vec<String> {
    let mut names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn small(answers: &mut Answers) {
    let dir = File::open(answers.at(".")).unwrap();
    answers.note("empty", list(&dir, 4096).map(sorted));
    answers.note("dir", mkdirat(CWD, answers.at("dir"), Mode::from_raw_mode(0o755)));
    answers.note("fifo", rustix::fs::mkfifoat(CWD, answers.at("fifo"), Mode::empty()));
    answers.note("link", rustix::fs::symlinkat("x", CWD, answers.at("link")));
    answers.put("file", 0o644, "");
    answers.note("rewind", seek(&dir, SeekFrom::Start(0)));
    answers.note("names", list(&dir, 4096).map(sorted));
    let mut kinds: Vec<_> = std::fs::read_dir(answers.at("."))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.file_type().unwrap()))
        .map(|(name, kind)| (name, kind.is_dir(), kind.is_file(), kind.is_symlink()))
        .collect();
    kinds.sort();
    answers.note("kinds", Ok::<_, std::io::Error>(kinds));
    // Numbers in a listing are those of the files.
    let same = std::fs::read_dir(answers.at(".")).unwrap().all(|entry| {
        use std::os::unix::fs::DirEntryExt;
        let entry = entry.unwrap();
        let stat = statat(CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        stat.st_ino == entry.ino()
    });
    answers.note("numbers", Ok::<_, std::io::Error>(same));
    answers.note("a file", File::open(answers.at("file")).map(|file| list(&file, 4096).err()));
}

fn large(answers: &mut Answers) {
    fill(answers, 250);
    for size in [512, 4096, 64 << 10] {
        let dir = File::open(answers.at(".")).unwrap();
        let names = sorted(list(&dir, size).unwrap());
        let different: BTreeSet<_> = names.iter().collect();
        let told = (names.len(), different.len(), names[2].clone());
        answers.note(&format!("by {size}"), Ok::<_, std::io::Error>(told));
    }
}

fn removal(answers: &mut Answers) {
    fill(answers, 150);
    let dir = File::open(answers.at(".")).unwrap();
    let mut removed = 0;
    let mut buffer = vec![MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            removed += usize::from(unlinkat(CWD, answers.at(&name), AtFlags::empty()).is_ok());
        }
    }
    answers.note("removed", Ok::<_, std::io::Error>(removed));
    answers.note("left", std::fs::read_dir(answers.at(".")).map(Iterator::count));
    let again = seek(&dir, SeekFrom::Start(0)).and_then(|_| list(&dir, 4096)).map(sorted);
    answers.note("same directory", again);
}

/// What is there all the time is in every listing, whatever else comes and goes.
fn churn(answers: &mut Answers) {
    fill(answers, 60);
    let mut missing = 0;
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let path = answers.at("");
        scope.spawn(move || {
            let gone = Err(std::sync::mpsc::TryRecvError::Empty);
            let mut number = 0_u64;
            while stopped.try_recv() == gone {
                number += 1;
                let name = format!("{path}{number}");
                File::create(&name).unwrap();
                std::fs::remove_file(&name).unwrap();
            }
        });
        for _ in 0..60 {
            let names = std::fs::read_dir(answers.at(".")).unwrap();
            let stays = names.filter(|name| {
                name.as_ref().unwrap().file_name().to_string_lossy().starts_with("a-name")
            });
            missing += 60 - stays.count();
        }
        drop(stop);
    });
    answers.note("missing", Ok::<_, std::io::Error>(missing));
}

/// Every position leads back to where it was taken.
fn places(answers: &mut Answers) {
    fill(answers, 150);
    let dir = File::open(answers.at(".")).unwrap();
    let names = list(&dir, 4096).unwrap();
    let mut wrong = Vec::new();
    for at in [0, 1, 2, 3, 75, 148, 150, 151] {
        let place = if at == 0 { 0 } else { names[at - 1].1 };
        seek(&dir, SeekFrom::Start(place)).unwrap();
        let rest = list(&dir, 1024).unwrap();
        if rest.first().map(|(name, _)| name) != names.get(at).map(|(name, _)| name) {
            wrong.push(at);
        }
    }
    answers.note("wrong", Ok::<_, std::io::Error>(wrong));
}
