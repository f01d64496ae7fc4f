//! Images as archives, to other tools and from them; what becomes free; and who may ask for all this.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::containerd::{self, Containerd};
use harness::cri::Cuddyd;
use harness::cuddy::{Cuddy, IMAGE};
use harness::{eventually, host};

/// Where root's commands look for a daemon, and start one.
const USUAL: &str = "/run/cuddy/cri.sock";

/// What the settings are read from, unless a command line says otherwise.
const SETTINGS: &str = "/etc/cuddy/cuddyd.toml";

/// The one id that is printed of an image.
fn id(text: &str) -> String {
    text.split_whitespace().rfind(|word| word.starts_with("sha256:")).unwrap().to_owned()
}

/// The id that `cuddy save` says the image has in the archive.
fn saved(cuddy: &Cuddy, image: &str, format: &str, file: &Path) -> String {
    id(&cuddy.said(&["save", "--format", format, "-o", file.to_str().unwrap(), image]))
}

#[test]
fn archives_are_read_by_other_tools_and_come_back_the_same() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name);
    let original = cuddy.inspect(IMAGE)["id"].as_str().unwrap().to_owned();
    let docker = saved(&cuddy, IMAGE, "docker", &at("docker.tar"));
    let mut streamed = cuddy.command(&["save", "--format", "oci", IMAGE]);
    let streamed = streamed.stdout(File::create(at("oci.tar")).unwrap()).status().unwrap();
    assert!(streamed.success());
    // What is in an archive is the same for all versions.
    let other = Containerd::new(&containerd::newest());
    for archive in ["docker.tar", "oci.tar"] {
        other.ctr(&["images", "rm", IMAGE]).ok();
        // It unpacks the layers, and compares them with what the configuration says.
        other.ctr(&["images", "import", at(archive).to_str().unwrap()]).ok();
        let listed = other.ctr(&["images", "ls", "-q"]).ok();
        assert_eq!(listed.trim(), IMAGE, "{archive}");
    }
    let exported = at("exported.tar").display().to_string();
    other.ctr(&["images", "export", &exported, IMAGE]).ok();
    assert_eq!(id(&cuddy.said(&["load", "-i", &exported])), docker, "{}", other.version());
    drop(other);
    cuddy.said(&["rmi", IMAGE]);
    for archive in ["docker.tar", "oci.tar", "docker.tar"] {
        let mut load = cuddy.command(&["load"]);
        let load = load.stdin(File::open(at(archive)).unwrap()).output().unwrap();
        assert!(load.status.success(), "{load:?}");
        let text = String::from_utf8(load.stdout).unwrap();
        assert_eq!((id(&text), text.starts_with(IMAGE)), (docker.clone(), true), "{text}");
    }
    assert_eq!(saved(&cuddy, IMAGE, "docker", &at("again.tar")), docker);
    assert_eq!(fs::read(at("again.tar")).unwrap(), fs::read(at("docker.tar")).unwrap());
    // The one that came from the registry has lost its name to the first that was loaded.
    let listed = cuddy.json(&["images", "--json"]);
    let named = |image: &&serde_json::Value| image["tags"][0] == IMAGE;
    let named: Vec<_> = listed.as_array().unwrap().iter().filter(named).collect();
    assert_eq!(named.len(), 1, "{listed}");
    assert_eq!(named[0]["id"], docker.as_str());
    assert_eq!(cuddy.said(&["run", "--rm", "--pull", "never", IMAGE, "echo", "runs"]), "runs\n");
    cuddy.said(&["load", "-i", "/opt/cuddy/images/busybox.tar"]);
    assert_eq!(cuddy.inspect(IMAGE)["id"], original.as_str());
    refused(&cuddy, &at("docker.tar"));
}

/// What is no archive, or none any more, is not loaded.
fn refused(cuddy: &Cuddy, archive: &Path) {
    let whole = fs::read(archive).unwrap();
    let broken = archive.with_extension("broken");
    let path = broken.to_str().unwrap();
    let before = cuddy.said(&["images"]);
    for (bytes, text) in
        [(&whole[..whole.len() / 2], "loading images"), (&b""[..], "loading images")]
    {
        fs::write(&broken, bytes).unwrap();
        let error = cuddy.refused(1, &["load", "-i", path]);
        assert!(error.contains(text), "{error}");
    }
    assert!(cuddy.refused(1, &["load", "-i", "/no/such"]).contains("/no/such"));
    let error = cuddy.refused(1, &["save", "-o", path, "nowhere.test/x"]);
    assert!(error.contains("nowhere.test/x") && !broken.exists(), "{error}");
    assert_eq!(cuddy.said(&["images"]), before);
}

fn free(path: &Path) -> u64 {
    let facts = rustix::fs::statvfs(path).unwrap();
    facts.f_bfree * facts.f_frsize
}

#[test]
fn gc_frees_what_it_says() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let root = daemon.path("root");
    cuddy.said(&["run", "--name", "user", IMAGE, "true"]);
    let none = cuddy.json(&["gc", "--json"]);
    assert_eq!((&none["bytes"], none["images"].as_array().unwrap().len()), (&0.into(), 0));
    cuddy.said(&["rm", "user"]);
    let asked = cuddy.json(&["gc", "--dry-run", "--json"]);
    let size = asked["bytes"].as_u64().unwrap();
    assert!(size > 500_000, "{asked}");
    let before = free(&root);
    let done = cuddy.json(&["gc", "--json"]);
    let freed = free(&root) - before;
    assert_eq!((&done["bytes"], &done["images"]), (&asked["bytes"], &asked["images"]));
    // The store's own file may take some pages.
    assert!(freed.abs_diff(size) < 256 << 10, "{freed} of {size}");
    assert_eq!(cuddy.json(&["images", "--json"]), serde_json::json!([]));
    assert_eq!(cuddy.said(&["gc"]), "0B freed\n");
}

/// A command of somebody who is neither root nor, without `group`, anything else.
fn of_user(arguments: &[&str], group: Option<u32>) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "4321", "--regid", "4321"]);
    match group {
        Some(group) => command.args(["--groups", &group.to_string()]),
        None => command.arg("--clear-groups"),
    };
    command.args(["timeout", "120", "cuddy"]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn members_of_the_group_are_served_and_others_are_told_what_to_do() {
    let before = fs::read_to_string("/etc/group").unwrap();
    fs::write("/etc/group", format!("{before}cuddy:x:1234:\n")).unwrap();
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    fs::set_permissions(daemon.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = daemon.path("cri.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let address = ["--address", socket.to_str().unwrap()];
    let stranger = of_user(&[&address[..], &["ps"]].concat(), None);
    let error = text(&stranger.stderr);
    assert!(error.contains("use sudo") && error.contains("usermod -aG cuddy"), "{error}");
    let run = ["run", "--name", "theirs", IMAGE, "echo", "hello"];
    let member = of_user(&[&address[..], &run].concat(), Some(1234));
    assert_eq!(text(&member.stdout), "hello\n", "{member:?}");
    let member = of_user(&[&address[..], &["logs", "theirs"]].concat(), Some(1234));
    assert_eq!(text(&member.stdout), "hello\n", "{member:?}");
    let member = of_user(&[&address[..], &["rm", "theirs"]].concat(), Some(1234));
    assert!(member.status.success(), "{member:?}");
    // Who comes by another way than the file is refused by the daemon.
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let stranger = of_user(&[&address[..], &["ps"]].concat(), None);
    let error = text(&stranger.stderr);
    assert!(error.contains("user 4321 is neither root nor in the group"), "{error}");

    fs::rename("/dev/kvm", "/dev/kvm.away").unwrap();
    let error = cuddy.refused(125, &["run", "--name", "slow", IMAGE, "true"]);
    fs::rename("/dev/kvm.away", "/dev/kvm").unwrap();
    assert!(error.contains("/dev/kvm") && error.contains("cuddy check"), "{error}");
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    fs::write("/etc/group", before).unwrap();
}

#[test]
fn command_without_a_daemon_starts_one_and_tells_what_is_wrong_with_its_settings() {
    let plain = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["120", "cuddy"]).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    let error = text(&of_user(&["ps"], None).stderr);
    assert!(error.contains(USUAL) && error.contains("start cuddyd"), "{error}");
    fs::create_dir_all("/etc/cuddy").unwrap();
    fs::write(SETTINGS, "# ours\nbrige = \"auto\"\n").unwrap();
    let problem = "cuddyd.toml:2: there is no setting \"brige\": did you mean \"bridge\"?";
    let failed = plain(&["ps"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(text(&failed.stderr).contains(problem), "{failed:?}");
    let check = Command::new("cuddyd").arg("--check").output().unwrap();
    assert!(!check.status.success() && text(&check.stderr).contains(problem), "{check:?}");
    fs::write(SETTINGS, "group = 'root'\nroot = '/run/cuddy-root'\n").unwrap();
    let check = Command::new("cuddyd").arg("--check").output().unwrap();
    assert!(text(&check.stdout).contains("root = \"/run/cuddy-root\""), "{check:?}");
    assert!(check.status.success(), "{check:?}");
    // Several at once start one.
    let several: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                Command::new("timeout").args(["120", "cuddy", "ps"]).output().unwrap()
            })
        })
        .collect();
    let several: Vec<_> = several.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(several.iter().all(|one| one.status.success()), "{several:?}");
    let started =
        several.iter().filter(|one| text(&one.stderr).contains("no daemon serves")).count();
    assert_eq!(started, 1, "{several:?}");
    let daemons = host::processes("cuddyd");
    assert_eq!(daemons.len(), 1);
    assert_eq!(text(&plain(&["ps"]).stderr), "");
    let taken = Command::new("cuddyd").output().unwrap();
    assert!(
        text(&taken.stderr).contains("in use") || text(&taken.stderr).contains("somebody serves")
    );
    host::kill(daemons[0]);
    fs::remove_file(SETTINGS).unwrap();
    eventually("the store is free", || fs::remove_dir_all("/run/cuddy-root").is_ok());
    // The daemon has begun a template, which is the node's.
    host::remove_but_templates();
}
