//! Executions of a runtime that does as the test says. The tests show what it is told, and what
//! becomes of answers, with sense and without.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "fake/host.rs"]
mod host;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::ConnectResponse;
use containerd_shim_protos::bootstrap_api::BootstrapParams;
use host::{Host, RUNTIMES, SOON, Shim, V2, V3, done, gone, web};
use protobuf::Message;
use protobuf::well_known_types::any::Any as RpcAny;
use shim_client::{Any, Error, Runtime, TaskVersion};

/// Deadline for what never ends.
const BRIEFLY: Duration = Duration::from_millis(300);

fn options() -> Any {
    Any { type_url: "containerd.runc.v1.Options".into(), value: b"\x08\x01".to_vec() }
}

fn serve(host: &Host, services: &[&str]) -> Shim {
    Shim::serve(host, services, |_| {
        done(&ConnectResponse { shim_pid: 77, ..ConnectResponse::default() })
    })
}

/// The error of a start whose runtime does `script`.
async fn fails(host: &Host, script: &str) -> Error {
    host.script(script);
    let begin = Instant::now();
    let runtime = host.runtime("new").within(Duration::from_secs(20));
    let error = runtime.start(&host.bundle(), &web(), None).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(15), "{error}");
    error
}

#[tokio::test]
async fn runtime_is_told_what_containerd_tells_it() {
    let host = Host::new();
    let _shim = serve(&host, &[V3]);
    host.script(&format!(
        r#"cat >stdin; echo "$@" >words; env >variables; pwd >place
        printf '{{"version":3,"address":"{}","protocol":"ttrpc"}}' "#,
        host.address()
    ));
    let shim = host.runtime("new").start(&host.bundle(), &web(), Some(&options())).await.unwrap();
    assert_eq!((shim.version(), shim.pid()), (TaskVersion::V3, 77));
    let words =
        "-namespace test -address /run/cuddyd.sock -publish-binary /usr/bin/cuddyd -id web start\n";
    assert_eq!(host.read("words"), words.as_bytes());
    assert_eq!(host.read("place"), format!("{}\n", host.bundle().display()).as_bytes());
    let variables = String::from_utf8(host.read("variables")).unwrap();
    for variable in
        ["TTRPC_ADDRESS=/run/events.sock", "NAMESPACE=test", "MORE=of it", "GOMAXPROCS=2"]
    {
        assert!(variables.lines().any(|line| line == variable), "{variables}");
    }
    let params = BootstrapParams::parse_from_bytes(&host.read("stdin")).unwrap();
    assert_eq!((params.instance_id.as_str(), params.namespace.as_str()), ("web", "test"));
    assert_eq!(params.containerd_ttrpc_address, "/run/events.sock");
    assert_eq!(params.containerd_grpc_address, "/run/cuddyd.sock");
    assert_eq!(params.containerd_binary, "/usr/bin/cuddyd");
    assert_eq!((params.containerd_version.as_str(), params.socket_dir()), ("1.2", "/run/s"));
    assert_eq!(params.extensions[0].value.type_url, "containerd.runc.v1.Options");
}

/// Those of containerd 1.6 fail on anything else.
#[tokio::test]
async fn older_runtime_is_told_its_options_or_nothing() {
    let host = Host::new();
    let _shim = serve(&host, &[V2]);
    host.script(&format!("cat >stdin; printf {}", host.address()));
    let runtime = host.runtime("old");
    assert_eq!(runtime.info().await.unwrap(), None);
    let shim = runtime.start(&host.bundle(), &web(), None).await.unwrap();
    assert_eq!(shim.version(), TaskVersion::V2);
    assert_eq!(host.read("stdin"), b"");
    runtime.start(&host.bundle(), &web(), Some(&options())).await.unwrap();
    let any = RpcAny::parse_from_bytes(&host.read("stdin")).unwrap();
    assert_eq!((any.type_url, any.value), (options().type_url, options().value));
}

#[tokio::test]
async fn runtime_that_was_replaced_is_asked_anew() {
    let host = Host::new();
    let binary = host.path("containerd-shim-some-v1");
    symlink(format!("{RUNTIMES}/containerd-shim-old-v1"), &binary).unwrap();
    let name = binary.to_str().unwrap();
    let runtime = Runtime::find(name, OsStr::new(""), Arc::new(host.daemon())).unwrap();
    assert_eq!(runtime.info().await.unwrap(), None);
    std::fs::remove_file(&binary).unwrap();
    symlink(format!("{RUNTIMES}/containerd-shim-new-v1"), &binary).unwrap();
    assert_eq!(runtime.info().await.unwrap().unwrap().name, "new");
    std::fs::remove_file(&binary).unwrap();
    let error = runtime.info().await.unwrap_err();
    assert!(matches!(&error, Error::Runtime(text) if text.contains("shim-some")), "{error}");
}

/// It may not need what the question needs; and if it does, it says so itself.
#[tokio::test]
async fn runtime_that_can_not_tell_of_itself_is_started_as_a_new_one() {
    let host = Host::new();
    let _shim = serve(&host, &[V2]);
    host.script(&format!("cat >stdin; printf {}", host.address()));
    let runtime = host.runtime("sick");
    assert_eq!(runtime.info().await.unwrap(), None);
    runtime.start(&host.bundle(), &web(), None).await.unwrap();
    assert!(host.read("stdin").starts_with(b"\n\x03web"));
}

#[tokio::test]
async fn binary_is_found_by_type_or_path_and_missed_by_name() {
    let host = Host::new();
    let find = |name: &str, path: &str| {
        Runtime::find(name, OsStr::new(path), Arc::new(host.daemon()))
            .map(|runtime| runtime.binary().display().to_string())
            .map_err(|error| error.to_string())
    };
    let path = format!("relative:/nonexistent:{RUNTIMES}");
    let new = format!("{RUNTIMES}/containerd-shim-new-v1");
    assert_eq!(find("io.containerd.new.v1", &path), Ok(new.clone()));
    assert_eq!(find(&new, ""), Ok(new));
    let missing = find("io.containerd.nothing.v1", &path).unwrap_err();
    assert!(missing.contains("containerd-shim-nothing-v1") && missing.contains(&path), "{missing}");
    for nonsense in ["new", "new.v1", "../x.new.v1/y", "io.containerd..v1", "io.containerd.a b.v1"]
    {
        let error = find(nonsense, &path).unwrap_err();
        assert!(error.contains("io.containerd.cuddy.v2"), "{error}");
    }
    for place in [RUNTIMES, "/nonexistent/shim", &format!("{RUNTIMES}/host.rs")] {
        let error = find(place, "").unwrap_err();
        assert!(error.contains(place) && error.contains("executed"), "{error}");
    }
}

#[tokio::test]
async fn failure_of_a_start_is_told_in_the_runtimes_words() {
    let host = Host::new();
    let error = fails(&host, "echo 'no such kernel: /x' >&2; echo more >&2; exit 3").await;
    let Error::Command(text) = error else { panic!("{error:?}") };
    assert!(text.contains("\"web\"") && text.contains("exit status: 3"), "{text}");
    assert!(text.ends_with("no such kernel: /x; more"), "{text}");
    let error = fails(&host, "echo 'why, on the wrong output'; exit 1").await.to_string();
    assert!(error.ends_with("why, on the wrong output"), "{error}");
    let error = fails(&host, "kill -9 $$").await.to_string();
    assert!(error.contains("signal: 9"), "{error}");
    // The end of what was said says most.
    let error = fails(&host, "yes 'much text' | head -c 1000000 >&2; echo why >&2; exit 1").await;
    let error = error.to_string();
    assert!(error.ends_with("why") && error.len() < 8192, "{} bytes", error.len());
}

#[tokio::test]
async fn answers_without_sense_are_refused_by_name() {
    let host = Host::new();
    let answers = [
        ("", "empty"),
        ("head -c 100 /dev/urandom | tr -d '\\n'; printf '\\377'", "answer"),
        ("printf vsock://3:1024", "\"vsock://3:1024\""),
        ("printf '\\010\\003\\022\\013unix:///a/b\\032\\004grpc'", "\"grpc\""),
        ("printf '\\010\\011\\022\\013unix:///a/b\\032\\005ttrpc'", "version 9"),
        ("head -c 70000 /dev/zero", "65536"),
        ("yes", "65536"),
    ];
    for (script, word) in answers {
        let error = fails(&host, script).await;
        assert!(matches!(&error, Error::Command(text) if text.contains(word)), "{script}: {error}");
    }
    // It makes sense, and there is nobody.
    let error = fails(&host, "printf unix:///nonexistent/socket").await;
    assert!(matches!(&error, Error::Gone(text) if text.contains("/nonexistent/socket")), "{error}");
    assert!(!host.bundle().join("bootstrap.json").exists());
}

#[tokio::test]
async fn start_that_hangs_is_ended_with_all_that_it_has_started() {
    let host = Host::new();
    host.script("echo waiting for godot >&2; echo $$ >self; sleep 1000 & echo $! >child; wait");
    let runtime = host.runtime("new").within(BRIEFLY);
    let error = runtime.start(&host.bundle(), &web(), None).await.unwrap_err();
    let Error::DeadlineExceeded(text) = error else { panic!("{error:?}") };
    assert!(text.contains("300ms") && text.ends_with("waiting for godot"), "{text}");
    gone(&host.bundle().join("self"));
    gone(&host.bundle().join("child"));
}

#[tokio::test]
async fn start_that_nobody_waits_for_any_more_is_ended() {
    let host = Host::new();
    host.script("echo $$ >new && mv new self; sleep 1000");
    let bundle = host.bundle();
    let runtime = host.runtime("new");
    let id = web();
    let start = runtime.start(&bundle, &id, None);
    let begun = async {
        while !bundle.join("self").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        started = start => panic!("{started:?}"),
        () = begun => {}
    }
    gone(&host.bundle().join("self"));
}

/// Shims must not, but some daemons keep their outputs. What was to be said has been said then.
#[tokio::test]
async fn daemon_that_keeps_the_pipes_open_does_not_hold_up_its_start() {
    let host = Host::new();
    let _shim = serve(&host, &[V2]);
    let script = format!("sleep 1000 & echo $! >child; printf {}", host.address());
    host.script(&script);
    let runtime = host.runtime("new").within(SOON);
    let started = runtime.start(&host.bundle(), &web(), None).await;
    let child = std::fs::read_to_string(host.bundle().join("child")).unwrap();
    let child = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    started.unwrap();
}

#[tokio::test]
async fn delete_tells_the_exit_and_fails_in_the_runtimes_words() {
    let host = Host::new();
    let runtime = host.runtime("old").within(SOON);
    host.script(
        "echo \"$@\" >words; pwd >place; printf '\\010\\007\\020\\211\\001\\032\\002\\010\\005'",
    );
    host.note(2);
    drop(std::os::unix::net::UnixListener::bind(host.socket()).unwrap());
    let exit = runtime.delete(&host.bundle(), &web()).await.unwrap();
    assert_eq!(exit.status, 137);
    assert!(!host.socket().exists(), "what a dead shim left");
    assert_eq!(exit.at, std::time::UNIX_EPOCH + Duration::from_secs(5));
    let words = String::from_utf8(host.read("words")).unwrap();
    let bundle = host.bundle().display().to_string();
    assert!(words.ends_with(&format!("-id web -bundle {bundle} delete\n")), "{words}");
    assert_eq!(host.read("place"), format!("{bundle}\n").as_bytes());
    for (script, word) in [
        ("echo 'journal is damaged' >&2; exit 1", "journal is damaged"),
        ("", "no sense"),
        ("echo hello", "no sense"),
    ] {
        host.script(script);
        let error = runtime.delete(&host.bundle(), &web()).await.unwrap_err();
        assert!(matches!(&error, Error::Command(text) if text.contains(word)), "{error}");
    }
    host.script("sleep 1000");
    let error = runtime.clone().within(BRIEFLY).delete(&host.bundle(), &web()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error}");
    let error = runtime.delete(&host.path("nowhere"), &web()).await.unwrap_err();
    let Error::Runtime(text) = error else { panic!("{error:?}") };
    assert!(text.contains("shim-old") && text.contains("/nowhere"), "{text}");
}

/// An older daemon of the pod behind a newer binary: it has the address, and not the version.
#[tokio::test]
async fn shim_that_is_older_than_its_binary_is_spoken_to_in_its_version() {
    let host = Host::new();
    let shim = serve(&host, &[V2]);
    host.script(&format!(
        r#"printf '{{"version":3,"address":"{}","protocol":"ttrpc"}}'"#,
        host.address()
    ));
    let started = host.runtime("new").start(&host.bundle(), &web(), None).await.unwrap();
    assert_eq!((started.version(), started.pid()), (TaskVersion::V2, 77));
    let services: Vec<_> = shim.requests().into_iter().map(|request| request.service).collect();
    assert_eq!(services, [V2]);
    let noted = String::from_utf8(host.read("bootstrap.json")).unwrap();
    assert!(noted.contains("\"version\":2"), "{noted}");
    assert_eq!(host.read("address"), host.address().as_bytes());
}
