//! Who asks: challenges, tokens, and who gets to see what.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

/// A registry that gives its image for the header `Authorization` that `good` says, and asks for
/// it with `challenge`.
async fn guarded(
    status: u16,
    challenge: impl Fn() -> String + Send + Sync + 'static,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    let sample = Sample::new();
    Server::start(move |request| match good(request.header("authorization")) {
        true => sample.answer(request),
        false => Answer::status(status).with("www-authenticate", &challenge()),
    })
    .await
}

/// A server of tokens `token0`, `token1` and so on.
async fn tokens(refuses: &'static str) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request| {
        if request.method == refuses {
            return Answer::status(404);
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::status(200).json(&format!(r#"{{"token":"token{number}","expires_in":300}}"#))
    })
    .await
}

fn bearer(server: &Server) -> String {
    format!("Bearer realm=\"{}/token\",service=\"here\"", server.url())
}

async fn pulled(registry: &Registry) {
    let image = registry.image(&Platform::guest()).await.unwrap_or_else(|error| panic!("{error}"));
    let (bytes, error) = drain(registry.blob(&image.manifest.layers[0].blob)).await;
    assert!(error.is_none() && bytes == Sample::new().layer);
}

#[tokio::test]
async fn a_password_is_shown_after_the_first_refusal() {
    let server = guarded(401, || "Basic realm=\"x\"".to_owned(), |header| header == BASIC).await;
    pulled(&from(&server, password(), patience()).await).await;
    let shown: Vec<_> =
        server.asked().iter().map(|request| request.header("authorization") == BASIC).collect();
    assert_eq!(shown, [false, true, true, true, true]);
    // The refusal is that of the request itself.
    assert!(server.paths().iter().all(|path| path.starts_with("/v2/some/image/")));
    let registry = from(&server, Login::Nobody, patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    assert!(told(&error).contains("asks for a user and a password, and there are none"), "{error}");
}

#[tokio::test]
async fn a_token_is_got_once_and_kept() {
    let realm = tokens("").await;
    let challenge = bearer(&realm);
    let server = guarded(401, move || challenge.clone(), |header| header == "Bearer token0").await;
    let registry = from(&server, password(), patience()).await;
    pulled(&registry).await;
    let asked = realm.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?service=here&scope=repository%3Asome%2Fimage%3Apull");
    assert_eq!(asked[0].header("authorization"), BASIC);
    assert!(server.asked().iter().all(|request| request.header("authorization") != BASIC));
    assert!(!format!("{registry:?}").contains("token0"));
}

#[tokio::test]
async fn nobody_gets_a_token_without_credentials() {
    let realm = tokens("").await;
    let challenge = bearer(&realm);
    let server = guarded(401, move || challenge.clone(), |header| header == "Bearer token0").await;
    pulled(&from(&server, Login::Nobody, patience()).await).await;
    assert!(!realm.asked()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_get_that_is_refused_becomes_a_post() {
    let identity_token = Secret::new("hunter2");
    let login = Login::Sent(AuthConfig { identity_token, ..AuthConfig::default() });
    for (login, refuses, methods, field) in [
        (login, "", vec!["POST"], "grant_type=refresh_token&refresh_token=hunter2"),
        (password(), "GET", vec!["GET", "POST"], "username=user&password=hunter2"),
    ] {
        let realm = tokens(refuses).await;
        let challenge = bearer(&realm);
        let server =
            guarded(401, move || challenge.clone(), |header| header == "Bearer token0").await;
        pulled(&from(&server, login, patience()).await).await;
        let asked = realm.asked();
        assert_eq!(
            asked.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(),
            methods
        );
        let last = asked.last().unwrap();
        assert!(last.body.contains(field), "{}", last.body);
        assert_eq!(last.header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(last.path, "/token");
    }
}

#[tokio::test]
async fn a_registrys_own_token_is_shown_as_it_is() {
    let registry_token = Secret::new("hunter2");
    let login = Login::Sent(AuthConfig { registry_token, ..AuthConfig::default() });
    let challenge = || "Bearer realm=\"https://nowhere.test/\"".to_owned();
    let server = guarded(401, challenge, |header| header == "Bearer hunter2").await;
    pulled(&from(&server, login, patience()).await).await;
}

#[tokio::test]
async fn a_token_that_expires_in_mid_pull_is_replaced() {
    for status in [401, 403] {
        let realm = tokens("").await;
        let challenge = bearer(&realm);
        let uses = AtomicUsize::new(0);
        // The first token is good for two requests, and the first request has none.
        let server = guarded(
            status,
            move || challenge.clone(),
            move |header| match header {
                "Bearer token0" => uses.fetch_add(1, Ordering::Relaxed) < 2,
                header => header == "Bearer token1",
            },
        );
        let server = server.await;
        if status == 401 {
            pulled(&from(&server, password(), patience()).await).await;
            assert_eq!(realm.asked().len(), 2);
        } else {
            // A refusal of somebody without a token is one.
            let registry = from(&server, password(), patience()).await;
            let error = registry.image(&Platform::guest()).await.unwrap_err();
            assert_eq!((error.class(), realm.asked().len()), (Class::Denied, 0));
        }
    }
}

#[tokio::test]
async fn a_403_to_an_old_token_gets_a_new_one_once() {
    let realm = tokens("").await;
    let challenge = bearer(&realm);
    let sample = Sample::new();
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let header = request.header("authorization");
        match (asked.fetch_add(1, Ordering::Relaxed), header) {
            (0, _) => Answer::status(401).with("www-authenticate", &challenge),
            // As Amazon's registry, without a word of how to go on.
            (1.., "Bearer token0") => Answer::status(403),
            (_, "Bearer token1") if !request.path.contains("blobs") => sample.answer(request),
            _ => Answer::status(403).json(r#"{"errors":[{"code":"DENIED"}]}"#),
        }
    });
    let server = server.await;
    let registry = from(&server, password(), patience()).await;
    let reference = Object::Tag("latest".to_owned());
    // The token that was just given out is refused at once: that is an answer.
    let error = registry.document(&reference).await.unwrap_err();
    assert_eq!((error.class(), realm.asked().len()), (Class::Denied, 1));
    registry.document(&reference).await.unwrap();
    assert_eq!(realm.asked().len(), 2);
    let (bytes, error) = drain(registry.blob(&Sample::new().blob())).await;
    let error = error.unwrap();
    assert_eq!((bytes.len(), error.class(), realm.asked().len()), (0, Class::Denied, 3));
    assert!(told(&error).ends_with("it answered 403: DENIED"), "{error}");
}

#[tokio::test]
async fn many_blobs_at_once_ask_for_one_token() {
    let realm = tokens("").await;
    let challenge = bearer(&realm);
    let server = guarded(401, move || challenge.clone(), |header| header == "Bearer token0").await;
    let registry = from(&server, password(), patience()).await;
    let blob = Sample::new().blob();
    let drains = (0..8).map(|_| drain(registry.blob(&blob)));
    let all = futures::future::join_all(drains).await;
    assert!(all.iter().all(|(bytes, error)| error.is_none() && bytes == &Sample::new().layer));
    assert_eq!(realm.asked().len(), 1);
    // One refusal of the server of tokens is that of all that wait.
    let realm = Server::start(|_| Answer::status(401).json("{\"details\":\"hunter2\"}")).await;
    let challenge = bearer(&realm);
    let server = guarded(401, move || challenge.clone(), |_| false).await;
    let registry = from(&server, Login::Nobody, patience()).await;
    let all = futures::future::join_all((0..8).map(|_| drain(registry.blob(&blob)))).await;
    for error in all.into_iter().map(|(_, error)| error.unwrap()) {
        let text = told(&error);
        assert!(text.ends_with("127.0.0.1, which gives out its tokens: it answered 401"), "{text}");
        assert_eq!(error.class(), Class::Denied);
    }
    assert_eq!(realm.asked().len(), 1);
}

#[tokio::test]
async fn credentials_are_for_their_own_server() {
    let (username, password) = ("user".to_owned(), Secret::new("hunter2"));
    let server_address = "https://other.test".to_owned();
    let login =
        Login::Sent(AuthConfig { username, password, server_address, ..AuthConfig::default() });
    let server = guarded(401, || "Basic realm=\"x\"".to_owned(), |header| header == BASIC).await;
    let registry = from(&server, login, patience()).await;
    assert_eq!(registry.image(&Platform::guest()).await.unwrap_err().class(), Class::Denied);
    let text = format!(
        r#"{{"auths":{{"{}/some":{{"auth":"dXNlcjpodW50ZXIy"}},"other.test":{{"auth":"eDp5"}}}}}}"#,
        server.address()
    );
    let login = Login::Node(DockerConfig::parse(text.as_bytes()).unwrap());
    pulled(&from(&server, login, patience()).await).await;
    let helper = r#"{"credsStore":"cuddy-test-that-is-nowhere"}"#;
    let login = Login::Node(DockerConfig::parse(helper.as_bytes()).unwrap());
    let registry = from(&server, login, patience()).await;
    let text = told(&registry.image(&Platform::guest()).await.unwrap_err());
    assert!(
        text.contains("credential helper docker-credential-cuddy-test-that-is-nowhere"),
        "{text}"
    );
}

#[tokio::test]
async fn other_servers_to_which_requests_are_led_see_no_credentials() {
    let sample = Sample::new();
    let storage = Server::start(move |request| {
        match request.header("authorization").is_empty() && request.header("x-own").is_empty() {
            true => sample.answer(request),
            false => Answer::status(400),
        }
    });
    let storage = storage.await;
    let target = storage.url();
    let server = Server::start(move |request| match request.header("authorization") {
        BASIC => {
            let path = request.path.split('?').next().unwrap();
            Answer::status(307).with("location", &format!("{target}{path}?sig=hunter2"))
        }
        _ => Answer::status(401).with("www-authenticate", "Basic realm=\"x\""),
    });
    let server = server.await;
    let text = format!("server = \"{}\"\n[header]\nx-own = \"hunter2\"\n", server.url());
    pulled(&by(&text, password(), patience()).await).await;
    assert!(server.asked().iter().all(|request| request.header("x-own") == "hunter2"));
    assert_eq!(storage.asked().len(), 4);
    assert!(storage.asked().iter().all(|request| !request.header("accept").contains("Basic")));
}

#[tokio::test]
async fn another_servers_question_for_credentials_is_not_answered() {
    let storage = guarded(401, || "Basic realm=\"x\"".to_owned(), |_| false).await;
    let target = storage.url();
    let server = Server::start(move |_| Answer::status(302).with("location", &target)).await;
    let registry = from(&server, password(), patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert!(told(&error).ends_with("it answered 401 by way of another server"), "{error}");
    let unasked = |request: &Request| !request.headers.contains_key("authorization");
    assert!(storage.asked().iter().all(unasked) && server.asked().iter().all(unasked));
}

#[tokio::test]
async fn redirects_end() {
    let own = Arc::new(OnceLock::<String>::new());
    let (seen, sample) = (own.clone(), Sample::new());
    let server = Server::start(move |request| {
        let (path, hops) = request.path.split_once("?hops=").unwrap_or((&request.path, "0"));
        let (path, hops) = (path.split('?').next().unwrap(), hops.parse::<usize>().unwrap());
        let most = if path.contains("blobs") { 11 } else { 10 };
        let whole = format!("{}{path}?hops={}", seen.get().unwrap(), hops + 1);
        match (hops < most, hops % 2) {
            (true, 0) => Answer::status(301).with("location", &format!("{path}?hops={}", hops + 1)),
            (true, _) => Answer::status(308).with("location", &whole),
            (false, _) => sample.answer(request),
        }
    });
    let server = server.await;
    own.set(server.url()).unwrap();
    let registry = from(&server, Login::Nobody, patience()).await;
    registry.document(&Object::Tag("latest".to_owned())).await.unwrap();
    let (_, error) = drain(registry.blob(&Sample::new().blob())).await;
    let text = told(&error.unwrap());
    assert!(text.ends_with("its redirect is not followed: there are more than 10"), "{text}");
}

#[tokio::test]
async fn a_server_of_tokens_leads_nowhere_with_a_password() {
    let thief = tokens("").await;
    let target = thief.url();
    let realm = Server::start(move |_| Answer::status(307).with("location", &target)).await;
    let challenge = bearer(&realm);
    let server = guarded(401, move || challenge.clone(), |_| false).await;
    let registry = from(&server, password(), patience()).await;
    let error = registry.image(&Platform::guest()).await.unwrap_err();
    assert!(told(&error).contains("its redirect is not followed"), "{error}");
    assert!(thief.asked().is_empty());
}
