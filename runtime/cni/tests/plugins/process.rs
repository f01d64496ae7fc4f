//! Plugins that are missing, slow, talkative, or leave something behind.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Error, Plugins};

use crate::ground::{Ground, PATIENT};

/// So long that a test which waits for it fails.
const LONG: u32 = 600;

/// A fifo that ends when the last process has ended that opened it for writing.
struct Leash(PathBuf);

impl Leash {
    fn new(ground: &Ground) -> Self {
        let path = ground.path("leash");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        Self(path)
    }

    /// What a script does to be on the leash, with all that it starts.
    fn script(&self) -> String {
        format!("exec 9>{}; echo on >&9", self.0.display())
    }

    /// Waits until a script is on the leash. The file that is returned ends with all of them.
    async fn taken(&self) -> fs::File {
        let path = self.0.clone();
        let open = move || {
            let mut file = fs::File::open(path)?;
            file.read_exact(&mut [0; 3])?;
            Ok::<_, io::Error>(file)
        };
        tokio::task::spawn_blocking(open).await.unwrap().unwrap()
    }
}

/// Waits until all processes on the leash have ended.
async fn all_ended(mut leash: fs::File) {
    let read = move || leash.read_to_end(&mut Vec::new());
    let ended = tokio::time::timeout(PATIENT, tokio::task::spawn_blocking(read)).await;
    ended.expect("a process lives on").unwrap().unwrap();
}

async fn attach(ground: &Ground, plugins: &Plugins) -> Error {
    let conf = ground.conf("1.0.0", &["a"]);
    let error = plugins.attach(&mut ground.attachment(&conf)).await.unwrap_err();
    let Error::Attach { cause, .. } = error else { panic!("{error:?}") };
    *cause
}

#[tokio::test]
async fn missing_plugin_names_all_directories() {
    let ground = Ground::new();
    fs::create_dir(ground.path("bin/a")).unwrap();
    let error = attach(&ground, &ground.plugins()).await.to_string();
    let (one, other) = (ground.path("elsewhere"), ground.path("bin"));
    let text = format!("CNI plugin a is in none of {}, {}", one.display(), other.display());
    assert_eq!(error, text, "a directory is no plugin");
    let none = attach(&ground, &Plugins::new(Vec::new(), PATIENT)).await.to_string();
    assert_eq!(none, "CNI plugin a is in none of no directories at all");
}

#[tokio::test]
async fn first_directory_with_a_plugin_counts() {
    let ground = Ground::new();
    ground.program("a", "#!/bin/sh\necho second >&2; exit 1");
    fs::rename(ground.path("bin"), ground.path("elsewhere")).unwrap();
    fs::create_dir(ground.path("bin")).unwrap();
    ground.program("a", "#!/bin/sh\necho first >&2; exit 1");
    let error = attach(&ground, &ground.plugins()).await.to_string();
    assert!(error.ends_with("exit status: 1: second"), "{error}");
}

#[tokio::test]
async fn file_that_is_no_program_says_so() {
    let ground = Ground::new();
    fs::write(ground.path("bin/a"), "not executable").unwrap();
    let error = attach(&ground, &ground.plugins()).await;
    let text = format!("executing {} for ADD: Permission denied", ground.path("bin/a").display());
    assert!(error.whole().starts_with(&text), "{}", error.whole());
}

#[tokio::test]
async fn slow_plugin_is_killed_with_all_that_it_started() {
    let ground = Ground::new();
    let leash = Leash::new(&ground);
    // The second one is to be undone at once.
    ground.plugin(
        "a",
        &format!(
            "[ $CNI_COMMAND = DEL ] && exit 0\n{}\necho still busy >&2\nsleep {LONG} & sleep {LONG}",
            leash.script()
        ),
    );
    let conf = ground.conf("1.0.0", &["a"]);
    let mut attachment = ground.attachment(&conf);
    // Long enough for a shell to begin on a busy machine.
    let limit = Duration::from_secs(5);
    let plugins = ground.plugins_within(limit);
    let (error, leash) = tokio::join!(plugins.attach(&mut attachment), leash.taken());
    let Error::Attach { cause, cleanup } = error.unwrap_err() else { panic!() };
    let text = "CNI plugin a was killed: ADD took longer than 5s: still busy";
    assert_eq!(cause.to_string(), text);
    assert!(matches!(*cause, Error::Deadline { .. }) && cleanup.is_none(), "{cleanup:?}");
    all_ended(leash).await;
}

#[tokio::test]
async fn plugin_that_nobody_waits_for_is_killed_with_all_that_it_started() {
    let ground = Ground::new();
    let leash = Leash::new(&ground);
    ground.plugin("a", &format!("{}\nsleep {LONG} & sleep {LONG}", leash.script()));
    let conf = ground.conf("1.0.0", &["a"]);
    let (plugins, mut attachment) = (ground.plugins(), ground.attachment(&conf));
    let leash = tokio::select! {
        _ = plugins.attach(&mut attachment) => panic!("it can't end"),
        leash = leash.taken() => leash,
    };
    all_ended(leash).await;
    assert_eq!(ground.calls(), ["a-ADD"], "undoing is the caller's");
}

#[tokio::test]
async fn child_that_holds_the_output_open_does_not_hold_up_the_answer() {
    let ground = Ground::new();
    let leash = Leash::new(&ground);
    let taken = leash.taken();
    ground.plugin("a", &format!("{}\necho '{{}}'\nread x <{} &", leash.script(), hold(&ground)));
    let conf = ground.conf("1.0.0", &["a"]);
    let (plugins, mut attachment) = (ground.plugins(), ground.attachment(&conf));
    let (attached, leash) = tokio::join!(plugins.attach(&mut attachment), taken);
    attached.unwrap();
    // The child is left alone: it is the plugin's.
    fs::write(hold(&ground), "go\n").unwrap();
    all_ended(leash).await;
}

/// A fifo that a child of a plugin waits for.
fn hold(ground: &Ground) -> String {
    let path = ground.path("hold");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0);
    assert!(matches!(made, Ok(()) | Err(rustix::io::Errno::EXIST)), "{made:?}");
    path.display().to_string()
}

#[tokio::test]
async fn endless_answer_ends_the_plugin() {
    let ground = Ground::new();
    let leash = Leash::new(&ground);
    ground.plugin("a", &format!("{}\nyes", leash.script()));
    let plugins = ground.plugins();
    let (error, leash) = tokio::join!(attach_once(&ground, &plugins), leash.taken());
    assert_eq!(error, "CNI plugin a, answer to ADD: it has more than 1048576 bytes");
    all_ended(leash).await;
}

/// STATUS stands for any call: nothing follows its failure.
async fn attach_once(ground: &Ground, plugins: &Plugins) -> String {
    let conf = ground.conf("1.1.0", &["a"]);
    let error = plugins.status(&conf).await.unwrap_err().to_string();
    error.replace("STATUS", "ADD")
}

#[tokio::test]
async fn only_the_end_of_an_endless_error_output_is_kept() {
    let ground = Ground::new();
    ground.plugin("a", "yes | head -c 3000000 >&2; echo the end >&2; exit 1");
    let error = attach(&ground, &ground.plugins()).await.to_string();
    assert!(error.len() < 2048 && error.contains("y; y; y"), "{error}");
}

#[tokio::test]
async fn plugin_that_does_not_read_is_no_failure() {
    let ground = Ground::new();
    ground.program("a", "#!/bin/sh\nexec <&-\necho '{}'");
    let padding = "x".repeat(900_000);
    let conf = ground.conf_of(&format!(
        r#""cniVersion": "1.0.0", "plugins": [{{"type": "a", "x": "{padding}"}}]"#
    ));
    ground.plugins().attach(&mut ground.attachment(&conf)).await.unwrap();
}

#[tokio::test]
async fn plugin_is_told_at_most_a_mebibyte() {
    let ground = Ground::new();
    let padding = "x".repeat(900_000);
    ground.plugin("a", &format!("head -c 200000 /dev/zero | tr '\\0' x >{0}; printf '{{\"x\": \"'; cat {0}; echo '\"}}'", ground.path("x").display()));
    let conf = ground.conf_of(&format!(
        r#""cniVersion": "1.0.0", "plugins": [{{"type": "a"}}, {{"type": "a", "x": "{padding}"}}]"#
    ));
    let error = ground.plugins().attach(&mut ground.attachment(&conf)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("what a CNI plugin is told: it would be 11"), "{text}");
}

#[tokio::test]
async fn plugin_sees_nothing_that_was_meant_for_this_process() {
    let ground = Ground::new();
    ground.program("a", "#!/bin/sh\nenv | grep -c ^PATH= >&2; exit 1");
    let error = attach(&ground, &ground.plugins()).await.to_string();
    assert!(error.ends_with("exit status: 1: 1"), "it finds programs: {error}");
    // In a process of its own, whose environment can be set.
    let own = std::env::current_exe().unwrap();
    let output = std::process::Command::new(own)
        .args(["--exact", "process::environment_of_a_child", "--include-ignored"])
        .env("CNI_GROUND", "x")
        .env("CNI_COMMAND", "DEL")
        .env("NOTIFY_SOCKET", "/run/notify")
        .env("LISTEN_FDS", "1")
        .env("KEPT", "yes")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn environment_of_a_child() {
    let ground = Ground::new();
    let file = ground.path("all");
    ground.program("a", &format!("#!/bin/sh\nenv >{}; exit 1", file.display()));
    attach_once(&ground, &ground.plugins()).await;
    let all = environment(&file);
    let has = |name: &str| all.lines().any(|line| line.starts_with(&format!("{name}=")));
    assert!(has("KEPT") && all.contains("CNI_COMMAND=STATUS"), "{all}");
    assert!(!has("NOTIFY_SOCKET") && !has("LISTEN_FDS") && !has("CNI_GROUND"), "{all}");
}

fn environment(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
