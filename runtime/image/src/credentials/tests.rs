use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::tests::Noise;

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.to_owned(), password: Secret::new(password) }
}

fn base64(text: &str) -> Secret {
    Secret::new(BASE64.encode(text))
}

fn token(text: &str) -> Credentials {
    Credentials::IdentityToken(Secret::new(text))
}

#[test]
fn a_pulls_credentials_count_in_containerds_order() {
    let mut auth = AuthConfig {
        username: "u".into(),
        password: Secret::new("p"),
        auth: base64("v:q"),
        server_address: String::new(),
        identity_token: Secret::new("id"),
        registry_token: Secret::new("reg"),
    };
    let get = |auth: &AuthConfig| auth.for_server("h:5000").unwrap();
    assert_eq!(get(&auth), Some(password("u", "p")));
    auth.username = String::new();
    assert_eq!(get(&auth), Some(token("id")));
    auth.identity_token = Secret::default();
    assert_eq!(get(&auth), Some(password("v", "q")));
    auth.auth = Secret::default();
    let registry_token = Credentials::RegistryToken(Secret::new("reg"));
    assert_eq!(get(&auth), Some(registry_token.clone()));
    auth.registry_token = Secret::default();
    // A password without a user is none.
    assert_eq!(get(&auth), None);
    assert_eq!(registry_token.authorization().unwrap().expose(), "Bearer reg");
    assert_eq!(password("u", "p").authorization().unwrap().expose(), "Basic dTpw");
    assert_eq!(token("id").authorization(), None);
}

#[test]
fn credentials_for_another_server_are_not_shown() {
    for (address, server, same) in [
        ("", "any", true),
        ("h.example", "h.example", true),
        ("https://H.example/v2/", "h.example", true),
        ("http://h.example:5000", "h.example:5000", true),
        ("h.example:5000/path", "h.example:5000", true),
        ("https://index.docker.io/v1/", "registry-1.docker.io", true),
        ("docker.io", "registry-1.docker.io", true),
        ("[::1]:5000", "[::1]:5000", true),
        ("h.example", "h.example:5000", false),
        ("h.example.evil", "h.example", false),
        ("https://evil/h.example", "h.example", false),
        ("https://", "h.example", false),
        ("docker.io", "mirror.example", false),
    ] {
        let (username, server_address) = ("u".to_owned(), address.to_owned());
        let auth = AuthConfig { username, server_address, ..AuthConfig::default() };
        let found = auth.for_server(server).unwrap();
        assert_eq!(found.is_some(), same, "{address} {server}");
    }
}

#[test]
fn the_field_auth() {
    let decoded = |auth: Secret| {
        AuthConfig { auth, ..AuthConfig::default() }.for_server("h\u{1b}").map(Option::unwrap)
    };
    assert_eq!(decoded(base64("u:p:q")).unwrap(), password("u", "p:q"));
    assert_eq!(decoded(base64("u:p\0\0")).unwrap(), password("u", "p"));
    assert_eq!(decoded(base64(":p")).unwrap(), password("", "p"));
    assert_eq!(decoded(Secret::new("dT\r\npw\n")).unwrap(), password("u", "p"));
    assert_eq!(decoded(Secret::new("dTpwcQ")).unwrap(), password("u", "pq"));
    for auth in [base64("hunter2"), Secret::new("hunter2!"), Secret::new("/w==")] {
        let error = decoded(auth.clone()).unwrap_err().to_string();
        let expected = "the field \"auth\" for \"h\\u{1b}\" is not base64 of \"user:password\"";
        assert_eq!(error, expected);
    }
    let auth = AuthConfig { username: "u:v".into(), ..AuthConfig::default() };
    let error = auth.for_server("h").unwrap_err().to_string();
    assert_eq!(error, "the user's name for \"h\" has a colon");
}

#[test]
fn nothing_of_credentials_is_printed() {
    let secret = || Secret::new("hunter2");
    let auth =
        AuthConfig { username: "hunter2".into(), password: secret(), ..AuthConfig::default() };
    let all =
        [password("hunter2", "hunter2"), token("hunter2"), Credentials::RegistryToken(secret())];
    let config =
        format!(r#"{{"auths": {{"h": {{"username": "hunter2", "auth": "{}"}}}}}}"#, "hunter2");
    let config = DockerConfig::parse(config.as_bytes()).unwrap();
    let shown = format!("{auth:?} {all:?} {config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn config(text: &str) -> DockerConfig {
    DockerConfig::parse(text.as_bytes()).unwrap()
}

fn stored(config: &DockerConfig, server: &str, repository: &str) -> Vec<String> {
    let user = |source| match source {
        Source::Stored(Credentials::Password { user, .. }) => user,
        Source::Stored(other) => format!("{other:?}"),
        Source::Program { program, server } => format!("{program:?} {server}"),
    };
    config.sources(server, repository).unwrap().into_iter().map(user).collect()
}

#[test]
fn the_entry_with_the_longest_path_counts_first() {
    let entry = |key: &str, user: &str| {
        format!("{key:?}: {{\"auth\": {:?}}}", base64(&format!("{user}:p")).expose())
    };
    let entries = [
        entry("h.example/a/b", "ab"),
        entry("h.example/a", "a"),
        entry("http://h.example/v2/", "v2"),
        entry("H.example", "host"),
        entry("h.example:5000", "port"),
        entry("https://index.docker.io/v1/", "hub"),
        entry("docker.io/mine", "mine"),
        entry("[::1]:5000", "six"),
        entry("https://[::1]", "six-alone"),
        "\"h.example/a/b/c\": {}, \"h.example/a/b/d\": null".to_owned(),
    ];
    let config = config(&format!("{{\"auths\": {{{}}}}}", entries.join(", ")));
    for (server, repository, users) in [
        ("h.example", "a/b/c", &["ab", "a", "host", "v2"][..]),
        ("h.example", "a/bc", &["a", "host", "v2"]),
        ("h.example", "c", &["host", "v2"]),
        ("h.example:5000", "a/b", &["port"]),
        ("registry-1.docker.io", "library/x", &["hub"]),
        ("docker.io", "mine/x", &["mine", "hub"]),
        ("[::1]:5000", "a", &["six"]),
        ("[::1]", "a", &["six-alone"]),
        ("other.example", "a", &[]),
        ("example", "a", &[]),
    ] {
        assert_eq!(stored(&config, server, repository), users, "{server}/{repository}");
    }
}

#[test]
fn an_entry_is_read_as_docker_writes_it() {
    let text = r#"{"auths": {
        "acr": {"auth": "MDAwMDAwMDAtMDAwMDo=", "identitytoken": "id"},
        "plain": {"username": "u", "password": "p", "email": "x"},
        "both": {"username": "x", "auth": "dTpw"},
        "token": {"registrytoken": "t"},
        "bad": {"auth": "hunter2"}}, "HttpHeaders": {"a": "b"}, "credHelpers": null}"#;
    let config = config(text);
    let get = |server| config.sources(server, "a").map(|sources| sources[0].clone());
    assert_eq!(get("acr").unwrap(), Source::Stored(token("id")));
    assert_eq!(get("plain").unwrap(), Source::Stored(password("u", "p")));
    assert_eq!(get("both").unwrap(), Source::Stored(password("u", "p")));
    assert!(matches!(get("token").unwrap(), Source::Stored(Credentials::RegistryToken(_))));
    assert_eq!(
        get("bad").unwrap_err().to_string().split(" is not").next(),
        Some("the field \"auth\" for \"bad\"")
    );
    for (text, place) in
        [("{\n\"auths\": \"hunter2\"}", "line 2, column 18"), ("hunter2", "line 1, column 1")]
    {
        let error = DockerConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the credentials are not the JSON of Docker's config.json: {place}")
        );
    }
    assert!(stored(&self::config(" \n"), "a", "b").is_empty());
}

#[test]
fn programs_are_asked_before_and_after_entries() {
    let text = r#"{"auths": {"a": {"auth": "dTpw"}, "docker.io": {}},
        "credHelpers": {"https://index.docker.io/v1/": "hub", "a": "mine", "b": ""},
        "credsStore": "desktop"}"#;
    let config = config(text);
    let program =
        |name: &str, server: &str| format!("Program(\"docker-credential-{name}\") {server}");
    assert_eq!(
        stored(&config, "a", "x"),
        [program("mine", "a"), "u".into(), program("desktop", "a")]
    );
    assert_eq!(stored(&config, "b", "x"), [program("desktop", "b")]);
    let key = "https://index.docker.io/v1/";
    assert_eq!(
        stored(&config, "registry-1.docker.io", "x"),
        [program("hub", key), program("desktop", key)]
    );
    for name in ["../x", "/bin/sh", "a b", "", &"x".repeat(65)] {
        assert!(Program::named(name).is_err(), "{name}");
    }
    let bad = self::config(r#"{"credsStore": "../../bin/sh"}"#);
    let error = bad.sources("a", "x").unwrap_err().to_string();
    assert!(error.starts_with("\"../../bin/sh\" is no credential helper's name"), "{error}");
}

#[test]
fn answers_of_programs() {
    let answer = |text: &str| Program::answer(true, text.as_bytes()).map(Option::unwrap);
    let full = r#"{"ServerURL": "x", "Username": "u", "Secret": "p"}"#;
    assert_eq!(answer(full).unwrap(), password("u", "p"));
    assert_eq!(answer(r#"{"Username": "<token>", "Secret": "t"}"#).unwrap(), token("t"));
    for (text, problem) in [
        ("", "line 1, column 0"),
        (r#"{"Username": "u"}"#, "line 1, column 17"),
        (r#"{"Username": 5, "Secret": "hunter2"}"#, "line 1, column 14"),
        (r#"{"Username": "u:v", "Secret": "hunter2"}"#, "the user's name has a colon"),
    ] {
        let error = answer(text).unwrap_err().to_string();
        assert_eq!(error, format!("its answer is not the JSON that it should be: {problem}"));
    }
    let failed = |text: &str| Program::answer(false, text.as_bytes());
    assert!(failed("credentials not found in native keychain\n").unwrap().is_none());
    let error = failed("no\u{1b} key: https://u:hunter2@h/").unwrap_err().to_string();
    assert_eq!(error, "it failed: no key: https://…@h/");
    assert_eq!(failed(" ").unwrap_err().to_string(), "it failed: it says nothing");
    let long = failed(&"a ".repeat(1 << 20)).unwrap_err().to_string();
    assert!(long.len() < 300, "{}", long.len());
}

/// Held by who makes and executes programs. A process that another test starts meanwhile would
/// have a program's file open for writing for a moment, so that it can't be executed.
static PROGRAMS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program of that text in a folder.
fn script(folder: &Path, name: &str, text: &str) -> Program {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Program::named(name).unwrap().in_folder(folder)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn get(program: &Program) -> Result<Option<Credentials>, ProgramError> {
    run(program.get("https://h.example", Duration::from_secs(60)))
}

fn alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    let stat = fs::read_to_string(PathBuf::from("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until_dead(pid_file: &Path) {
    let start = Instant::now();
    while alive(pid_file) {
        assert!(start.elapsed() < Duration::from_secs(30), "{} lives", pid_file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_is_asked_as_docker_asks_it() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let text = r#"[ "$1" = get ] || exit 1
        echo noise >&2; printf '{"Username": "u", "Secret": "'; cat; printf '"}'"#;
    let found = get(&script(dir.path(), "echo", text)).unwrap();
    assert_eq!(found, Some(password("u", "https://h.example")));
    let deaf = script(dir.path(), "deaf", r#"exec <&-; echo '{"Username": "u", "Secret": "p"}'"#);
    assert_eq!(get(&deaf).unwrap(), Some(password("u", "p")));
    let none = script(dir.path(), "none", "echo credentials not found in native keychain; exit 1");
    assert_eq!(get(&none).unwrap(), None);
    let broken = script(dir.path(), "broken", "echo locked; exit 3");
    let error = get(&broken).unwrap_err().to_string();
    assert!(error.ends_with("docker-credential-broken: it failed: locked"), "{error}");
    let missing = Program::named("x").unwrap().in_folder(dir.path());
    let error = get(&missing).unwrap_err().to_string();
    assert!(
        error.ends_with("docker-credential-x: No such file or directory (os error 2)"),
        "{error}"
    );
}

#[test]
fn a_program_that_does_not_end_is_killed_with_its_children() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    let slow = script(dir.path(), "slow", &text);
    let error = run(slow.get("h", Duration::from_millis(50))).unwrap_err().to_string();
    assert!(error.ends_with("it was killed after 0.05 s without an answer"), "{error}");
    // Nobody waits for it any more.
    let started = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run(async {
        tokio::select! {
            answer = slow.get("h", Duration::from_secs(600)) => panic!("{answer:?}"),
            () = started => {}
        }
    });
    wait_until_dead(&pid);
    let text = format!("echo $$ > {}; while :; do echo {}; done", pid.display(), "x".repeat(100));
    let error = get(&script(dir.path(), "loud", &text)).unwrap_err().to_string();
    assert!(error.ends_with("it was killed because it wrote more than 65536 bytes"), "{error}");
    wait_until_dead(&pid);
}

#[test]
fn a_search_goes_on_after_a_program_that_fails() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let find = |path: &Path| {
        let config = DockerConfig::load(path)?;
        run(config.find("a", "x", Duration::from_secs(60)))
    };
    assert!(find(&path).unwrap().credentials.is_none());
    let name = "cuddy-test-that-is-nowhere";
    fs::write(
        &path,
        format!(r#"{{"auths": {{"a": {{"auth": "dTpw"}}}}, "credHelpers": {{"a": "{name}"}}}}"#),
    )
    .unwrap();
    let found = find(&path).unwrap();
    assert_eq!(found.credentials, Some(password("u", "p")));
    assert_eq!(found.failures.len(), 1);
    assert_eq!(found.failures[0].program, format!("docker-credential-{name}"));
    fs::write(&path, "{").unwrap();
    assert!(find(&path).is_err());
    fs::write(&path, vec![b' '; (4 << 20) + 1]).unwrap();
    assert!(matches!(find(&path), Err(CredentialsError::Read { .. })));
    assert!(matches!(find(dir.path()), Err(CredentialsError::Read { .. })));
}

#[test]
fn damaged_files_make_errors() {
    let mut noise = Noise::new(5);
    let text = r#"{"auths": {"a/x": {"auth": "dTpw"}, "a": {"username": "hunter2", "password": "hunter2"}},
        "credHelpers": {"a": "mine"}, "credsStore": "desktop"}"#;
    let mut refused = 0;
    for _ in 0..10_000 {
        let bytes = noise.damaged(text);
        let sources = DockerConfig::parse(&bytes).and_then(|config| config.sources("a", "x"));
        match sources {
            Ok(sources) => assert!(sources.len() <= 4),
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.len() < 1000 && !text.contains("unter2"), "{text}");
            }
        }
    }
    assert!(refused > 1000);
}
