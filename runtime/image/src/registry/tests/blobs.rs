//! Blobs: broken connections, and servers that send something else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::*;

/// All bytes of the sample's layer, by servers of a `hosts.toml`.
async fn layer(toml: &str, patience: Patience) -> (Vec<u8>, Option<RegistryError>) {
    drain(by(toml, Login::Nobody, patience).await.blob(&Sample::new().blob())).await
}

/// The same from one server that answers a request by its number and what is right.
async fn layer_by(
    patience: Patience,
    answer: impl Fn(usize, &Request, Answer) -> Answer + Send + Sync + 'static,
) -> (Server, Vec<u8>, Option<RegistryError>) {
    let (sample, count) = (Sample::new(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        answer(count.fetch_add(1, Ordering::Relaxed), request, sample.answer(request))
    });
    let server = server.await;
    let (bytes, error) = layer(&format!("server = \"{}\"", server.url()), patience).await;
    (server, bytes, error)
}

fn ranges(server: &Server) -> Vec<String> {
    server.asked().iter().map(|request| request.header("range").to_owned()).collect()
}

/// A failed pull's text. What came before is the layer's beginning.
fn failed((server, bytes, error): (Server, Vec<u8>, Option<RegistryError>)) -> (Server, String) {
    assert!(Sample::new().layer.starts_with(&bytes), "bytes of something else");
    (server, told(&error.expect("no error")))
}

#[tokio::test]
async fn a_transfer_that_is_cut_anywhere_goes_on_there() {
    let layer = Sample::new().layer;
    for step in 0..20 {
        let at = [0, 1, layer.len() - 1, layer.len() / 20 * step][step.min(3)];
        let (server, bytes, error) = layer_by(patience(), move |number, _, right| match number {
            0 => right.cut_after(at),
            _ => right,
        })
        .await;
        assert!(error.is_none() && bytes == layer, "{at}: {error:?}");
        // What the operating system dropped of the end is asked for again too.
        let asked = ranges(&server);
        assert_eq!((asked.len(), asked[0].as_str()), (2, ""), "{at}");
        let from = asked[1]
            .strip_prefix("bytes=")
            .map_or(0, |range| range.strip_suffix('-').unwrap().parse::<usize>().unwrap());
        assert!(from <= at && (at == 0) == asked[1].is_empty(), "{at}: {asked:?}");
    }
}

#[tokio::test]
async fn a_server_that_sends_all_again_gives_nothing_twice() {
    let (server, bytes, error) = layer_by(patience(), |number, request, right| match number {
        0 => right.cut_after(1000),
        1 => Answer::ok(&Sample::new().layer).cut_after(700),
        2 => Answer::ok(&Sample::new().layer).cut_after(5000).without_length(),
        3 => Answer::status(416),
        4 if request.header("range").is_empty() => right.cut_after(6000),
        _ => right,
    })
    .await;
    assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
    let asked = ranges(&server);
    let expected = ["", "bytes=1000-", "bytes=1000-", "bytes=5000-", "", ""];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_part_of_another_place_is_refused() {
    let size = Sample::new().layer.len();
    let end = size - 1;
    for range in [
        format!("bytes 999-{end}/{size}"),
        format!("bytes 1001-{end}/{size}"),
        format!("bytes 1000-{size}/{}", size + 1),
        format!("bytes 1000-{end}/{}", size + 1),
        "bytes".to_owned(),
    ] {
        let shown = range.clone();
        let result = layer_by(patience(), move |number, _, right| match number {
            0 => right.cut_after(1000),
            _ => Answer::status(206).send(&[7; 500]).with("content-range", &range),
        });
        let (server, text) = failed(result.await);
        let expected = format!("it sends \"{shown}\" in place of bytes 1000-{end}/{size}");
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(server.asked().len(), 2);
    }
    let unasked = Answer::status(206).with("content-range", &format!("bytes 0-{end}/{size}"));
    let result = layer_by(patience(), move |_, _, _| unasked.clone()).await;
    assert!(failed(result).1.contains("in place of"));
}

#[tokio::test]
async fn a_smaller_part_than_was_asked_for_is_taken() {
    let sample = Sample::new();
    let (size, layer) = (sample.layer.len(), sample.layer.clone());
    let (server, bytes, error) = layer_by(patience(), move |number, _, right| match number {
        0 => right.cut_after(1000),
        1 => Answer::status(206)
            .send(&layer[1000..9000])
            .with("content-range", &format!("bytes 1000-8999/{size}")),
        _ => right,
    })
    .await;
    assert!(error.is_none() && bytes == sample.layer, "{error:?}");
    assert_eq!(ranges(&server), ["", "bytes=1000-", "bytes=9000-"]);
}

#[tokio::test]
async fn content_without_a_length_is_read_to_its_end() {
    let layer = Sample::new().layer;
    let (_, bytes, error) = layer_by(patience(), |_, _, right| right.without_length()).await;
    assert!(error.is_none() && bytes == layer, "{error:?}");
    let (server, bytes, error) = layer_by(patience(), |number, _, right| match number {
        0 => right.without_length().cut_after(777),
        _ => right,
    })
    .await;
    assert!(error.is_none() && bytes == layer, "{error:?}");
    assert_eq!(ranges(&server), ["", "bytes=777-"]);
    let more = [layer.clone(), vec![0; 100_000]].concat();
    let result = layer_by(patience(), move |_, _, _| Answer::ok(&more).without_length()).await;
    let (server, text) = failed(result);
    assert!(text.contains("is longer than the 400000 bytes that were announced"), "{text}");
    assert_eq!(server.asked().len(), 1);
    let other = [&layer[1..], &[0]].concat();
    let (_, bytes, error) =
        layer_by(patience(), move |_, _, _| Answer::ok(&other).without_length()).await;
    assert!(told(&error.unwrap()).contains("hashes to"));
    assert!(bytes.len() < layer.len(), "the last bytes came before the check");
    let result = layer_by(patience(), |_, _, _| Answer::status(200).endless(&[0; 1 << 16])).await;
    assert!(told(&result.2.unwrap()).contains("is longer than the 400000 bytes"));
}

#[tokio::test]
async fn another_length_is_refused_before_a_byte_is_taken() {
    for length in [0, 399_999, 400_001] {
        let result = layer_by(patience(), move |_, _, right| right.length(length)).await;
        assert!(result.1.is_empty());
        let (server, text) = failed(result);
        let expected = format!("it sends {length} bytes in place of 400000");
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(server.asked().len(), 1);
    }
    let result = layer_by(patience(), |_, _, right| right.with("content-encoding", "gzip")).await;
    assert!(failed(result).1.ends_with("it encodes the content in another way: \"gzip\""));
}

#[tokio::test]
async fn empty_content_is_content() {
    let server = Server::start(|_| Answer::ok(b"")).await;
    let registry = from(&server, Login::Nobody, patience()).await;
    let blob = Blob { digest: Digest::of(b""), size: 0 };
    let (bytes, error) = drain(registry.blob(&blob)).await;
    assert!(bytes.is_empty() && error.is_none());
    let (_, error) = drain(registry.blob(&Blob { digest: Digest::of(b"x"), size: 0 })).await;
    assert!(told(&error.unwrap()).contains("hashes to"));
}

#[tokio::test]
async fn other_content_ends_in_an_error_and_its_server_is_asked_last_then() {
    let sample = Sample::new();
    let mut other = sample.layer.clone();
    *other.last_mut().unwrap() ^= 1;
    let liar = Server::start(move |_| Answer::ok(&other)).await;
    let own = Server::start(move |request| sample.answer(request)).await;
    let text = format!("server = \"{}\"\n[host.\"{}\"]\n", own.url(), liar.url());
    let registry = by(&text, Login::Nobody, patience()).await;
    let blob = Sample::new().blob();
    let (bytes, error) = drain(registry.blob(&blob)).await;
    let error = error.unwrap();
    assert!(told(&error).starts_with(&format!("content of {} hashes to", blob.digest)), "{error}");
    assert_eq!((error.class(), own.asked().len()), (Class::Invalid, 0));
    assert!(bytes.len() < Sample::new().layer.len(), "the last bytes came before the check");
    let (bytes, error) = drain(registry.blob(&blob)).await;
    assert!(error.is_none() && bytes == Sample::new().layer);
    assert_eq!((liar.asked().len(), own.asked().len()), (1, 1));
}

#[tokio::test]
async fn the_next_server_goes_on_where_one_failed_for_good() {
    for answer in [Answer::status(404), Answer::status(200).length(7), Answer::status(500)] {
        let passing = answer.clone().cut();
        let (sample, count) = (Sample::new(), AtomicUsize::new(0));
        let mirror = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
            0 => sample.answer(request).cut_after(1234),
            _ => passing.clone(),
        });
        let (mirror, sample) = (mirror.await, Sample::new());
        let own = Server::start(move |request| sample.answer(request)).await;
        let text = format!("server = \"{}\"\n[host.\"{}\"]\n", own.url(), mirror.url());
        let (bytes, error) = layer(&text, patience()).await;
        assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
        assert_eq!(ranges(&own), ["bytes=1234-"]);
    }
}

#[tokio::test]
async fn attempts_are_counted_anew_only_with_progress() {
    let settings = Patience { progress: 50_000, ..patience() };
    let (server, text) = failed(layer_by(settings.clone(), |_, _, right| right.cut_after(9)).await);
    assert!(text.contains("the connection broke"), "{text}");
    assert_eq!(server.asked().len(), 5);
    let (server, bytes, error) = layer_by(settings, |_, _, right| right.cut_after(50_000)).await;
    assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
    assert!(server.asked().len() >= 8);
    let (server, text) = failed(layer_by(patience(), |_, _, _| Answer::status(500)).await);
    assert!(text.ends_with("it answered 500"), "{text}");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn an_old_address_of_another_server_is_replaced() {
    let (sample, count) = (Sample::new(), AtomicUsize::new(0));
    let storage = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => sample.answer(request).cut_after(5000),
        1 => Answer::status(403).send(b"<Error><Token>hunter2</Token></Error>"),
        _ => sample.answer(request),
    });
    let storage = storage.await;
    let target = storage.url();
    let (server, bytes, error) = layer_by(patience(), move |_, request, _| {
        let path = request.path.split('?').next().unwrap();
        Answer::status(307).with("location", &format!("{target}{path}?sig=hunter2"))
    })
    .await;
    assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
    assert_eq!(server.asked().len(), 3);
    assert_eq!(ranges(&storage), ["", "bytes=5000-", "bytes=5000-"]);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_ends() {
    in_small_steps();
    let began = Instant::now();
    let second = Duration::from_secs(1);
    let patience = Patience { attempts: 2, ..Patience::default() };
    let result = layer_by(patience.clone(), move |_, _, _| {
        Answer::status(200).trickle(&Sample::new().layer, second)
    });
    let (server, text) = failed(result.await);
    assert!(text.contains(": only ") && text.contains(" bytes in 12"), "{text}");
    assert_eq!(server.asked().len(), usize::try_from(patience.attempts).unwrap());
    let longest = patience.attempts * (patience.window + patience.longest_pause);
    assert!(began.elapsed() < longest, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_replaced() {
    in_small_steps();
    let began = Instant::now();
    let (server, bytes, error) = layer_by(Patience::default(), |number, _, right| match number {
        0 => right.cut_after(300).cut_to_silence(),
        _ => right,
    })
    .await;
    assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
    assert_eq!(ranges(&server), ["", "bytes=300-"]);
    assert!((60..120).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // Without the header of an answer too.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = format!("server = \"http://{}\"", server.local_addr().unwrap());
    let (_, error) = layer(&toml, Patience { attempts: 2, ..Patience::default() }).await;
    let error = error.unwrap();
    assert!(told(&error).ends_with("no answer for 60 s") && error.is_unavailable(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_not_held_against_the_server() {
    in_small_steps();
    let sample = Sample::new();
    let server = Server::start(move |request| sample.answer(request)).await;
    let registry = from(&server, Login::Nobody, Patience::default()).await;
    let mut stream = registry.blob(&Sample::new().blob());
    let (mut bytes, mut pauses) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
        if pauses < 3 {
            pauses += 1;
            tokio::time::sleep(Duration::from_secs(150)).await;
        }
    }
    assert!(bytes == Sample::new().layer && pauses == 3);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_pause_gets_it_within_limits() {
    in_small_steps();
    for (asked, least) in [("9", 9), ("86400", 30), ("0", 0), ("soon", 0)] {
        let began = Instant::now();
        let (_, bytes, error) =
            layer_by(Patience::default(), move |number, _, right| match number {
                0 => Answer::status(429).with("retry-after", asked),
                _ => right,
            })
            .await;
        assert!(error.is_none() && bytes == Sample::new().layer, "{error:?}");
        let waited = began.elapsed().as_secs();
        // The clock also goes on while bytes are on their way, and not to a day.
        assert!((least..600).contains(&waited), "{asked}: {waited}");
    }
}

#[tokio::test]
async fn a_request_ends_when_nobody_waits_for_it() {
    let sample = Sample::new();
    let size = sample.layer.len();
    let server = Server::start(move |_| Answer::ok(&sample.layer[..9]).length(size).hang()).await;
    let registry = from(&server, Login::Nobody, patience()).await;
    let mut stream = registry.blob(&Sample::new().blob());
    assert_eq!(stream.next().await.unwrap().unwrap().len(), 9);
    // An await that is given up loses nothing, and ends nothing.
    assert!(stream.next().now_or_never().is_none());
    assert!(server.ended().now_or_never().is_none());
    drop(stream);
    server.ended().await;
    let server = Server::start(|_| Answer::status(200).length(9).hang()).await;
    let registry = from(&server, Login::Nobody, patience()).await;
    let platform = Platform::guest();
    let pull = registry.image(&platform);
    let seen = async {
        while server.asked().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = pull => panic!("an answer"),
        () = seen => {}
    }
    server.ended().await;
}
