//! Several servers for one registry.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A `hosts.toml` with mirrors before the registry's own server.
fn toml(mirrors: &[&Server], own: &Server) -> String {
    let hosts = mirrors.iter().map(|mirror| format!("[host.\"{}\"]\n", mirror.url()));
    format!("server = \"{}\"\n{}", own.url(), hosts.collect::<String>())
}

async fn registry() -> Server {
    let sample = Sample::new();
    Server::start(move |request| sample.answer(request)).await
}

async fn answering(answer: Answer) -> Server {
    Server::start(move |_| answer.clone()).await
}

#[tokio::test]
async fn what_a_mirror_does_not_give_the_next_server_gives() {
    let sample = Sample::new();
    let index = Answer::ok(sample.index.as_bytes());
    for mirror in [
        Answer::status(404),
        Answer::status(500),
        Answer::status(403),
        Answer::status(204),
        Answer::status(302),
        Answer::ok(b"<html>portal"),
        Answer::status(200).length(5).cut(),
        index.with("docker-content-digest", Digest::of(b"").as_str()),
    ] {
        let (mirror, own) = (answering(mirror).await, registry().await);
        let registry = by(&toml(&[&mirror], &own), password(), patience()).await;
        let image = registry.image(&Platform::guest()).await.unwrap();
        let (bytes, error) = drain(registry.blob(&image.manifest.layers[0].blob)).await;
        assert!(error.is_none() && bytes == sample.layer, "{error:?}");
        assert!(mirror.paths()[0].ends_with("?ns=registry.test"));
        assert_eq!(own.paths().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_do_not_answer_are_left_for_the_next_one() {
    in_small_steps();
    let gone = registry().await.url();
    let silent = answering(Answer::status(200).length(9).hang()).await;
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = format!("http://{}", deaf.local_addr().unwrap());
    let own = registry().await;
    let before = toml(&[&silent], &own);
    let text = format!(
        "{before}[host.\"{deaf}\"]\n[host.\"{}1\"]\n",
        gone.trim_end_matches(char::is_numeric)
    );
    let registry = by(&text, Login::Nobody, patience()).await;
    registry.image(&Platform::guest()).await.unwrap();
    assert_eq!(silent.asked().len(), 3);
}

#[tokio::test]
async fn an_error_tells_what_each_server_said() {
    let body = r#"{"errors":[{"code":"DENIED","message":"no: https://u:hunter2@h/?sig=1"}]}"#;
    let first = answering(Answer::status(418).json(body)).await;
    let second = answering(Answer::status(200).length(5).cut()).await;
    let own = answering(Answer::status(404)).await;
    let text = toml(&[&first, &second], &own);
    let registry = by(&text, password(), patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    let expected = format!(
        "registry.test/some/image:latest: {}: it answered 418: DENIED: no: https://…@h/?…; \
         {}: the connection broke: ",
        first.address(),
        second.address()
    );
    let text = told(&error);
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.ends_with(&format!("; {}: it answered 404", own.address())), "{text}");
    assert_eq!((error.class(), error.is_unavailable()), (Class::NotFound, false));
    // Only the one that may do better was asked again.
    let counts = [&first, &second, &own].map(|server| server.asked().len());
    assert_eq!(counts, [1, 3, 1]);
}

#[tokio::test]
async fn classes_of_errors_are_told_apart() {
    for (status, class) in [
        (404, Class::NotFound),
        (403, Class::Denied),
        (500, Class::Unavailable),
        (503, Class::Unavailable),
        (429, Class::Unavailable),
        (400, Class::Invalid),
    ] {
        let server = answering(Answer::status(status)).await;
        let registry = from(&server, Login::Nobody, patience()).await;
        let error = registry.image(&Platform::guest()).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert_eq!(error.is_unavailable(), class == Class::Unavailable);
    }
    let gone = registry().await.address();
    // Nobody listens on that port: port 1 is no registry's.
    let gone = format!("{}:1", gone.split(':').next().unwrap());
    let registry = by(&format!("server = \"http://{gone}\""), Login::Nobody, patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert!(error.is_unavailable());
    assert!(told(&error).contains("it can't be reached: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_mirror_does_what_it_is_trusted_with() {
    let (mirror, own) = (registry().await, registry().await);
    let text = toml(&[&mirror], &own)
        + "capabilities = [\"pull\"]\n"
        + "[host.\"HOST\".header]\nx-mirror = \"hunter2\"\n"
            .replace("HOST", &mirror.url())
            .as_str();
    let registry = by(&text, Login::Nobody, patience()).await;
    let image = registry.image(&Platform::guest()).await.unwrap();
    let names = |server: &Server| -> Vec<_> {
        let paths = server.paths();
        paths.iter().map(|path| path.contains("latest")).collect()
    };
    assert_eq!((names(&mirror), names(&own)), (vec![false, false], vec![true]));
    assert!(mirror.asked().iter().all(|request| request.header("x-mirror") == "hunter2"));
    assert!(own.asked().iter().all(|request| request.header("x-mirror").is_empty()));
    assert!(!format!("{registry:?} {image:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_mirrors_path_is_the_whole_path_where_that_is_said() {
    let mirror = registry().await;
    let text = format!("[host.\"{}/proxy/cache\"]\noverride_path = true\n", mirror.url());
    let registry = by(&text, Login::Nobody, patience()).await;
    registry.image(&Platform::guest()).await.unwrap();
    let path = mirror.paths().remove(0);
    assert_eq!(path, "/proxy/cache/some/image/manifests/latest?ns=registry.test");
}

#[tokio::test]
async fn files_are_read_for_each_pull() {
    let (first, second) = (registry().await, registry().await);
    let (folder, hosts) = configured(&format!("server = \"{}\"", first.url()));
    for server in [&first, &second] {
        let text = format!("server = \"{}\"\nodd = 1", server.url());
        std::fs::write(folder.path().join("_default/hosts.toml"), text).unwrap();
        let reference = "registry.test/a:latest".parse().unwrap();
        let registry = Registry::open(reference, &hosts, Login::Nobody, patience()).await.unwrap();
        assert_eq!((registry.warnings().len(), registry.reference().path()), (1, "a"));
        registry.image(&Platform::guest()).await.unwrap();
        assert_eq!(server.asked().len(), 3);
    }
    std::fs::write(folder.path().join("_default/hosts.toml"), "[[").unwrap();
    let reference = "registry.test/a:latest".parse().unwrap();
    let error = Registry::open(reference, &hosts, Login::Nobody, patience()).await.unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_registry_in_trouble_is_asked_again_when_it_wants() {
    in_small_steps();
    let sample = Sample::new();
    let refusals = AtomicU32::new(2);
    let server = Server::start(move |request| {
        let left =
            refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Ok(2) => Answer::status(503).with("retry-after", "7"),
            Ok(_) => Answer::status(429).with("retry-after", "86400"),
            Err(_) => sample.answer(request),
        }
    });
    let registry = from(&server.await, Login::Nobody, Patience::default()).await;
    let began = tokio::time::Instant::now();
    registry.image(&Platform::guest()).await.unwrap();
    let waited = began.elapsed().as_secs();
    let longest = Patience::default().longest_pause.as_secs();
    // The clock also goes on while bytes are on their way, and not to a day.
    assert!((7 + longest..600).contains(&waited), "{waited} s");
}
