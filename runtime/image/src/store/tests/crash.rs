//! A daemon that is killed at every step of what it does. Nothing that it has answered is lost.
//! Nothing is left that nobody needs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, getpid, kill_process};

use super::{Prune, Removed, Sample, Store, check_files, name};
use crate::digest::Digest;

/// In the environment of the daemon that is killed: its directory, and at which step.
const DIRECTORY: &str = "CUDDY_TEST_STORE";
const STEP: &str = "CUDDY_TEST_STEP";

thread_local! {
    /// Steps to go until the process is killed.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(in super::super) fn step() {
    let left = LEFT.get();
    if left == Some(0) {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
    LEFT.set(left.map(|left| left - 1));
}

fn samples() -> [Sample; 4] {
    [
        Sample::new("a", &["one", "two"]),
        Sample::new("b", &["two", "three"]),
        Sample::new("c", &["four"]),
        Sample::new("d", &["one", "five"]),
    ]
}

/// What the daemon has said about each image: it is here, it is not, or it has begun a change.
struct Answers(PathBuf);

impl Answers {
    fn write(&self, mark: char, id: &Digest) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0).unwrap();
        file.write_all(format!("{mark}{id}\n").as_bytes()).unwrap();
    }

    fn last(&self) -> BTreeMap<String, char> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_at(1));
        lines.map(|(mark, id)| (id.to_owned(), mark.chars().next().unwrap())).collect()
    }

    fn change(&self, id: &Digest, here: bool, change: impl FnOnce()) {
        self.write('?', id);
        change();
        self.write(if here { '+' } else { '-' }, id);
    }
}

#[test]
#[ignore = "the daemon that the test below kills"]
fn daemon() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let answers = Answers(directory.join("answers"));
    LEFT.set(Some(std::env::var(STEP).unwrap().parse().unwrap()));
    let [a, b, c, d] = samples();
    let (store, _) = Store::open(&directory.join("store")).unwrap();
    store.uses_known().unwrap();
    answers.change(&a.id(), true, || drop(a.pull(&store, &["x"]).unwrap()));
    answers.change(&b.id(), true, || drop(b.pull(&store, &["x", "y"]).unwrap()));
    store.settle().unwrap();
    let hold = store.hold(&a.id()).unwrap();
    answers.change(&a.id(), false, || assert_eq!(store.remove(&a.id()).unwrap(), Removed::InUse));
    answers.change(&c.id(), true, || drop(c.pull(&store, &[]).unwrap()));
    store.untag(&name("y")).unwrap();
    store.tag(&b.id(), &name("z")).unwrap();
    let lease = store.lease();
    d.fetch(&store, &lease).unwrap();
    let _staged = store.stage().unwrap();
    answers.change(&c.id(), false, || drop(store.prune(Prune::Untagged).unwrap()));
    hold.end().unwrap();
    drop(lease);
    store.collect().unwrap();
    answers.change(&b.id(), false, || assert_eq!(store.remove(&b.id()).unwrap(), Removed::Freed));
    // Every layer goes away and comes back.
    answers.change(&a.id(), true, || drop(a.pull(&store, &["x"]).unwrap()));
}

/// Runs the daemon. False: it came to its end.
fn killed_at(step: u32, directory: &Path) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::daemon", "--ignored"])
        .env(DIRECTORY, directory)
        .env(STEP, step.to_string())
        .output()
        .unwrap();
    let killed = status.status.signal() == Some(Signal::KILL.as_raw());
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(killed || status.status.success() && said.contains("1 passed"), "{said}");
    killed
}

#[test]
fn killed_daemon_loses_nothing_and_leaves_nothing() {
    let mut steps = 0;
    loop {
        let directory = tempfile::tempdir().unwrap();
        let killed = killed_at(steps, directory.path());
        let (store, findings) = Store::open(&directory.path().join("store")).unwrap();
        assert_eq!(findings.broken, [], "step {steps}");
        for image in store.view().images() {
            assert!(image.layers.iter().all(|layer| store.layer_path(&layer.diff_id).exists()));
        }
        store.uses_known().unwrap();
        check_files(&store, &[]);
        for (id, mark) in Answers(directory.path().join("answers")).last() {
            let here = store.view().get(&id.parse().unwrap()).is_some();
            assert!(mark == '?' || here == (mark == '+'), "step {steps}: {mark}{id}");
        }
        // It goes on as if nothing had happened.
        for sample in samples() {
            sample.pull(&store, &["x"]).unwrap();
            store.remove(&sample.id()).unwrap();
        }
        assert_eq!(store.view().images().len() + usize::try_from(store.usage().inodes).unwrap(), 0);
        if !killed {
            break;
        }
        steps += 1;
    }
    assert!(steps > 40, "only {steps} steps: are they still where something can break?");
}
