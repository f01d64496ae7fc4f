//! What the command line is asked for reaches the container, and what can't be is refused.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use harness::cri::Cuddyd;
use harness::cuddy::{Cuddy, IMAGE, Terminal, logs_of};
use harness::host;

#[test]
fn options_of_run_take_effect_in_the_container() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name);
    fs::create_dir_all(at("data")).unwrap();
    fs::set_permissions(at("data"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(at("data/in"), "from the host\n").unwrap();
    fs::write(at("variables"), "# these\nA=file\nB=two words\n").unwrap();
    let script = "echo $A, $B, $C, $0; pwd; id -u; id -g; hostname; \
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /data/in; \
        touch /ro/new /new; echo from the guest > /data/out; exit 7";
    let data = at("data").display().to_string();
    let (rw, ro) = (format!("{data}:/data"), format!("{data}:/ro:ro"));
    let file = at("variables").display().to_string();
    let arguments = [
        &["run", "--rm", "--name", "all", "--env-file", &file, "-e", "A=option", "-e", "C"][..],
        &["-w", "/tmp", "-u", "1000:1001", "--hostname", "host", "--memory", "64m"],
        &["--cpus", "0.5", "-v", &rw, "-v", &ro, "--entrypoint", "sh"],
        &[IMAGE, "-c", script, "zeroth"],
    ];
    let mut command = cuddy.command(&arguments.concat());
    let done = command.env("C", "from here").stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(7), "{done:?}");
    let expected = "option, two words, from here, zeroth\n/tmp\n1000\n1001\nhost\n\
        67108864\n50000 100000\nfrom the host\n";
    assert_eq!(String::from_utf8_lossy(&done.stdout), expected, "{done:?}");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(errors.contains("/ro/new: Read-only") && errors.contains("/new: Permission"));
    assert_eq!(fs::read_to_string(at("data/out")).unwrap(), "from the guest\n");
    // As with Docker, and with a kubelet.
    let missing = format!("{}:/missing", at("made/here").display());
    cuddy.said(&["run", "--rm", "-v", &missing, IMAGE, "touch", "/missing/there"]);
    assert!(at("made/here/there").exists());

    for (code, arguments, text) in [
        (127, &[IMAGE, "no-such-program"][..], "no-such-program"),
        (126, &[IMAGE, "/etc/passwd"], "/etc/passwd"),
        (125, &["-w", "tmp", IMAGE, "true"], "/tmp"),
        (125, &["--pod", "nobody", IMAGE, "true"], "\"nobody\""),
        (125, &["--pull", "never", "nowhere.test/x", "true"], "nowhere.test/x"),
        (125, &["Not/An:Image", "true"], "Not/An:Image"),
        (125, &["--memory", "much", IMAGE], "512m"),
    ] {
        let refused = cuddy.refused(code, &[&["run", "--name", "refused"], arguments].concat());
        assert!(refused.contains(text), "{arguments:?}: {refused}");
        assert!(logs_of("refused").is_empty(), "{arguments:?}");
    }
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// A container that waits for its end, and what is done to it from outside.
fn waiting(cuddy: &Cuddy) {
    let script = "trap 'echo last; exit 6' TERM; echo first; while :; do echo; sleep 0.2; done";
    cuddy.said(&["run", "-d", "--name", "main", "-l", "of=test", IMAGE, "sh", "-c", script]);
}

fn output(done: &Output) -> (Option<i32>, String) {
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What a command that reads `input` leaves.
fn fed(cuddy: &Cuddy, input: &[u8], arguments: &[&str]) -> Output {
    let mut command = cuddy.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn processes(cuddy: &Cuddy) {
    let cases = [
        (9, &["sh", "-c", "exit 9"][..]),
        (137, &["sh", "-c", "kill -9 $$"]),
        (127, &["no-such-program"]),
        (126, &["/etc/passwd"]),
    ];
    for (code, command) in cases {
        cuddy.refused(code, &[&["exec", "main"], command].concat());
    }
    assert!(cuddy.refused(125, &["exec", "nobody", "true"]).contains("cuddy ps -a"));
    let done = fed(cuddy, b"through\n", &["exec", "-i", "main", "cat"]);
    assert_eq!(output(&done), (Some(0), "through\n".into()));
}

fn copies(cuddy: &Cuddy, here: &Path) {
    let at = |name: &str| here.join(name).display().to_string();
    fs::create_dir_all(here.join("tree/below")).unwrap();
    fs::write(here.join("tree/below/file"), "content").unwrap();
    fs::set_permissions(here.join("tree/below/file"), PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("below/file", here.join("tree/link")).unwrap();
    cuddy.said(&["cp", &at("tree"), "main:/tmp"]);
    cuddy.said(&["cp", &at("tree"), "main:/tmp/renamed"]);
    cuddy.said(&["cp", &at("tree/below/file"), "main:tmp/one"]);
    let script = "cd /tmp; cat tree/link renamed/link one; stat -c %a tree/below/file";
    let seen = cuddy.said(&["exec", "main", "sh", "-c", script]);
    assert_eq!(seen, "contentcontentcontent640\n");
    fs::create_dir(here.join("back")).unwrap();
    cuddy.said(&["cp", "main:/tmp/tree", &at("back")]);
    cuddy.said(&["cp", "main:/tmp/tree", &at("copy")]);
    cuddy.said(&["cp", "main:/tmp/one", &at("two")]);
    for path in ["back/tree/link", "copy/below/file", "two"] {
        assert_eq!(fs::read_to_string(here.join(path)).unwrap(), "content", "{path}");
    }
    let archive = cuddy.done(&["cp", "main:/tmp/tree", "-"]);
    assert!(archive.status.success(), "{:?}", String::from_utf8_lossy(&archive.stderr));
    let done = fed(cuddy, &archive.stdout, &["cp", "-", "main:/home"]);
    assert_eq!(output(&done), (Some(0), String::new()), "{done:?}");
    assert_eq!(cuddy.said(&["exec", "main", "cat", "/home/tree/link"]), "content");
    for (from, to, text) in [
        ("main:/no/such", at("back"), "/no"),
        ("/no/such", "main:/tmp".into(), "/no/such"),
        (&*at("two"), "main:/no/such/x".into(), "/no/such"),
        ("main:/", at("back"), "no name"),
        ("main:/tmp/one", at("none/x"), "none/x"),
    ] {
        let refused = cuddy.refused(1, &["cp", from, &to]);
        assert!(refused.contains(text), "{from} {to}: {refused}");
    }
}

fn lists(cuddy: &Cuddy) {
    let all = cuddy.json(&["ps", "--json"]);
    let main = &all[0];
    assert_eq!((&main["name"], &main["state"]), (&"main".into(), &"running".into()));
    assert_eq!((&main["image"], &main["labels"]["of"]), (&IMAGE.into(), &"test".into()));
    let id = main["id"].as_str().unwrap();
    assert_eq!(cuddy.said(&["ps", "-q"]).trim(), id);
    let known = cuddy.inspect(&id[..8]);
    assert_eq!((&known["kind"], &known["id"]), (&"container".into(), &id.into()));
    let pod = main["pod"].as_str().unwrap();
    assert_eq!(cuddy.json(&["pods", "--json"])[0]["id"], pod);
    assert!(cuddy.said(&["pods"]).contains(&pod[..12]));
    let known = cuddy.inspect(pod);
    assert_eq!((&known["kind"], &known["ready"]), (&"pod".into(), &true.into()));
    assert_eq!(known["ips"].as_array().unwrap().len(), 2, "{known}");
    let image = cuddy.inspect(IMAGE);
    assert_eq!((&image["kind"], &image["id"]), (&"image".into(), &main["imageId"]));
    assert!(cuddy.refused(1, &["inspect", "nobody"]).contains("nobody"));
    let used = cuddy.json(&["stats", "--json", "main"]);
    assert!(used[0]["cpuThousandths"].as_u64().unwrap() > 0, "{used}");
    assert!(used[0]["memoryBytes"].as_u64().unwrap() > 0, "{used}");
    let mut top = Terminal::new(80, 24, &cuddy.unlimited(&["top", "-d", "1"]));
    top.until("CONTAINER ID");
    top.until("main");
    top.keys(b"\x03");
    assert_eq!(top.child.wait().unwrap().signal(), Some(2));
}

/// A command whose output is read line by line.
struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// Starts it, and waits for its first line.
    fn new(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        Self { child, lines }
    }

    /// Its exit code, and its last line.
    fn end(&mut self) -> (Option<i32>, String) {
        let last = self.lines.by_ref().map(Result::unwrap).last();
        (self.child.wait().unwrap().code(), last.unwrap())
    }
}

#[test]
fn container_in_the_background_is_reached_by_every_verb() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let here = tempfile::tempdir().unwrap();
    waiting(&cuddy);
    processes(&cuddy);
    copies(&cuddy, here.path());
    lists(&cuddy);
    let text = cuddy.refused(1, &["rmi", IMAGE]);
    assert!(text.contains("is in use by container") && text.contains("-f"), "{text}");
    assert!(cuddy.refused(1, &["rm", "main"]).contains("runs: stop it first"));

    let mut attached = Reader::new(cuddy.command(&["attach", "--no-stdin", "main"]));
    let mut followed = Reader::new(cuddy.command(&["logs", "-f", "main"]));
    cuddy.said(&["stop", "main"]);
    assert!(host::shims().is_empty(), "the machine has ended when the command has");
    assert_eq!(attached.end(), (Some(6), "last".to_owned()));
    assert_eq!(followed.end(), (Some(0), "last".to_owned()));
    assert_eq!(cuddy.inspect("main")["exitCode"], 6);
    assert!(cuddy.refused(1, &["start", "main"]).contains("`cuddy run` makes another one"));
    assert!(cuddy.refused(1, &["kill", "main"]).contains("does not run"));
    assert!(cuddy.refused(125, &["attach", "main"]).contains("does not run"));
    cuddy.said(&["rmi", "-f", IMAGE]);
    cuddy.said(&["rm", "main"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn user_leaves_a_terminal_and_comes_back() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let mut terminal =
        Terminal::new(80, 24, &cuddy.command(&["run", "-it", "--name", "shell", IMAGE, "sh"]));
    terminal.until("# ");
    terminal.keys(b"\x10\x11");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    let mut terminal = Terminal::new(80, 24, &cuddy.command(&["attach", "shell"]));
    // The shell reads lines only.
    terminal.keys(b"echo $((6 * 7)); exit 4\n");
    terminal.until("42\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(4));
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done";
    let run = cuddy.unlimited(&["run", "--rm", "--name", "deaf", IMAGE, "sh", "-c", script]);
    let mut deaf = Terminal::new(80, 24, &run);
    deaf.until("ready");
    deaf.keys(b"\x03");
    deaf.until("asked");
    deaf.keys(b"\x03");
    assert_eq!(deaf.child.wait().unwrap().code(), Some(137), "{:?}", deaf.seen);
    cuddy.said(&["rm", "-f", "shell"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}
