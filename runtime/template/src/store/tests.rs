use std::os::fd::AsRawFd;

use host::capacity::Host;

use super::*;
use crate::recipe::tests::{HOST, config, wish};

/// A store with one template in it that could be opened, and what it is made of.
struct Stocked {
    dir: tempfile::TempDir,
    store: Store,
    recipe: Recipe,
    key: Key,
}

fn stocked() -> Stocked {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(&dir.path().join("templates"));
    std::fs::create_dir(store.path()).unwrap();
    let recipe = Recipe::of(&config(dir.path()), &wish(256, None), HOST).unwrap().unwrap();
    let key = put(&store, &recipe);
    Stocked { dir, store, recipe, key }
}

fn put(store: &Store, recipe: &Recipe) -> Key {
    let key = recipe.key().unwrap();
    let directory = store.directory(&key);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(STATE), "state").unwrap();
    let memory = File::create(directory.join(MEMORY)).unwrap();
    memory.set_len(recipe.memory_mib << 20).unwrap();
    let record = Record {
        recipe: recipe.clone(),
        kernel: [7; 32].into(),
        built_unix_s: 1,
        took_ms: 2,
        booted_in_us: 3,
    };
    let text = serde_json::to_vec(&record).unwrap();
    std::fs::write(directory.join(RECORD), text).unwrap();
    key
}

#[test]
fn template_is_found_by_what_it_is_made_of() {
    let stocked = stocked();
    let Stocked { dir, store, recipe, key } = &stocked;
    let found = store.find(recipe).unwrap().unwrap();
    assert_eq!((&found.key, found.record.kernel.bytes()), (key, &[7; 32]));
    let other = Recipe { memory_mib: 512, ..recipe.clone() };
    assert!(store.find(&other).unwrap().is_none());
    let nowhere = Store::at(&dir.path().join("none"));
    assert!(nowhere.find(recipe).unwrap().is_none() && nowhere.list().unwrap().is_empty());
}

/// The attack: a clone whose VMM is taken over writes to what all others start from.
#[test]
fn memory_is_opened_so_that_it_can_not_be_opened_for_writing() {
    let stocked = stocked();
    let Stocked { store, recipe, .. } = &stocked;
    let found = store.find(recipe).unwrap().unwrap();
    let again = format!("/proc/self/fd/{}", found.memory.as_raw_fd());
    let error = std::fs::OpenOptions::new().write(true).open(again).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn damaged_template_is_refused_by_name() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 6] = [
        ("template.json", |template| std::fs::write(template.join(RECORD), "{}").unwrap()),
        ("template.json", |template| std::fs::write(template.join(RECORD), [0; 70_000]).unwrap()),
        ("template.json", |template| std::fs::remove_file(template.join(RECORD)).unwrap()),
        ("memory", |template| std::fs::remove_file(template.join(MEMORY)).unwrap()),
        ("memory: 4096 bytes", |template| {
            File::options().write(true).open(template.join(MEMORY)).unwrap().set_len(4096).unwrap();
        }),
        ("state", |template| std::fs::remove_file(template.join(STATE)).unwrap()),
    ];
    for (named, damage) in damages {
        let stocked = stocked();
        let Stocked { store, recipe, key, .. } = &stocked;
        damage(&store.directory(key));
        let error = store.find(recipe).unwrap_err().to_string();
        assert!(error.contains(key.as_str()) && error.contains(named), "{named}: {error}");
    }
}

#[test]
fn template_under_the_name_of_another_is_refused() {
    let stocked = stocked();
    let Stocked { store, recipe, key, .. } = &stocked;
    let other = Recipe { extra_cmdline: "quiet".into(), ..recipe.clone() };
    let place = store.directory(&other.key().unwrap());
    std::fs::rename(store.directory(key), place).unwrap();
    let error = store.find(&other).unwrap_err().to_string();
    assert!(error.contains("other things"), "{error}");
}

#[test]
fn image_that_was_replaced_after_the_look_is_not_the_templates() {
    let stocked = stocked();
    let Stocked { dir, store, recipe, .. } = &stocked;
    let opened = || store.find(recipe).unwrap().unwrap();
    let config = config_of(recipe, dir.path());
    opened().into_saved(&config).unwrap();
    std::fs::write(&config.rootfs, "another image").unwrap();
    let error = opened().into_saved(&config).unwrap_err().to_string();
    assert!(error.contains(config.rootfs.to_str().unwrap()), "{error}");
}

/// The settings of a recipe, with the files as they are.
fn config_of(recipe: &Recipe, dir: &Path) -> Config {
    let raw = host::config::RawConfig {
        kernel: Some((&recipe.inputs.kernel.path).into()),
        rootfs: Some((&recipe.inputs.rootfs.path).into()),
        vmm: Some((&recipe.inputs.vmm.path).into()),
        ..Default::default()
    };
    Config::new(raw, dir, dir).unwrap()
}

#[test]
fn template_that_does_not_work_is_gone_and_noted() {
    let stocked = stocked();
    let Stocked { store, recipe, key, .. } = &stocked;
    assert!(store.failed_lately(key).is_none());
    store.set_aside(key, "it hangs");
    assert!(store.find(recipe).unwrap().is_none());
    assert_eq!(store.failed_lately(key).unwrap().reason, "it hangs");
    store.set_aside(key, "it is gone");
    store.forget_failure(key);
    assert!(store.failed_lately(key).is_none());
    assert!(!store.remove(key).unwrap());
}

#[test]
fn sweep_removes_what_nobody_can_use_and_nothing_else() {
    let stocked = stocked();
    let Stocked { dir, store, recipe, key } = &stocked;
    let small = Recipe { memory_mib: 128, ..recipe.clone() };
    let damaged = put(store, &small);
    std::fs::write(store.directory(&damaged).join(RECORD), "").unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let host = Host { memory_mib: 512, cpus: 1 };
    let other = Recipe::of(&config(foreign.path()), &wish(256, None), host).unwrap().unwrap();
    let other = put(store, &other);
    for left in [".new-7", ".old-8", ".try-9"] {
        let run = store.path().join(format!("{key}{left}/run"));
        std::fs::create_dir_all(run).unwrap();
    }
    std::fs::write(store.path().join(format!("{key}.failed")), "").unwrap();
    store.note_failure(&damaged, "fresh");
    let lock = store.try_lock().unwrap();
    assert_eq!(store.sweep(&lock).unwrap(), std::slice::from_ref(&damaged));
    let mut left = store.names().unwrap();
    left.sort();
    let mut expected = [key.to_string(), other.to_string(), format!("{damaged}.failed")];
    expected.sort();
    assert_eq!(left, expected);
    // An input of one of them changes.
    std::fs::write(dir.path().join("vmm"), "an upgrade").unwrap();
    assert_eq!(store.sweep(&lock).unwrap(), std::slice::from_ref(key));
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn process_of_a_builder_that_was_killed_ends_with_what_it_left() {
    use host::journal::Entry;
    let stocked = stocked();
    let Stocked { store, key, .. } = &stocked;
    let left = store.scratch(key, "new").unwrap();
    let mut child = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let started = host::spawn::start_time(child.id()).unwrap();
    let state = host::store::StateDir::at(&left.join(sweep::RUN));
    state.create().unwrap().add(&Entry::Process { pid: child.id(), started }).unwrap();
    // The child is this process's to reap, which the other thread does.
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    store.sweep(&store.try_lock().unwrap()).unwrap();
    assert!(!reaper.join().unwrap().success());
    assert!(!left.exists());
}
