//! Pulls beside each other, of which one goes or may not have what the other has.

use super::*;

#[tokio::test]
async fn cancelled_pull_leaves_the_layers_that_another_one_wants() {
    let layers: Vec<_> = (0..4).map(|seed| Layer::of("tar+gzip", seed)).collect();
    let content = Content::default().image("a", &layers[..3]).image("b", &layers[1..]);
    let gate = Gate::default();
    let (held, slow, own) = (gate.clone(), layers[1].clone(), layers[0].clone());
    let server = Server::start(move |request| {
        let half = |layer: &Layer| layer.blob.len() / 2;
        match object(request) {
            // Both want it, and it is half here.
            digest if digest == slow.digest().as_str() => {
                let (start, end) = slow.blob.split_at(half(&slow));
                Answer::ok(start).wait(&held).send(end)
            }
            // Only the one that goes wants it.
            digest if digest == own.digest().as_str() => {
                Answer::ok(&own.blob[..half(&own)]).length(own.blob.len()).hang()
            }
            _ => content.answer(request),
        }
    })
    .await;
    let node = Node::of(&server);
    let first = node.spawn("a", None);
    gate.reached().await;
    until(|| asked(&server, &layers[0]) == 1).await;
    let second = node.spawn("b", None);
    node.waiting(&layers[1], 2).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    server.ended().await;
    assert_eq!(node.puller.jobs.waiting(&layers[0].wanted()), 0);
    gate.open();
    let image = second.await.unwrap().unwrap();
    assert_eq!(image.user, "b");
    assert_eq!(asked(&server, &layers[1]), 1, "half of it did not come twice");
    node.quiet().await;
    assert_eq!(node.files("staging"), 0);
    assert!(!node.store.layer_path(&layers[0].diff_id).exists());
    layers[1..].iter().for_each(|layer| fsck(&node.store.layer_path(&layer.diff_id)));
    assert_eq!(node.store.view().images().count(), 1);
}

/// The layers are on their way for another pull, and that is no right to have them.
#[tokio::test]
async fn follower_without_credentials_gets_nothing_of_the_leaders() {
    let layer = Layer::of("tar+gzip", 1);
    let content = Content::default().image("a", std::slice::from_ref(&layer));
    let gate = Gate::default();
    let (held, slow) = (gate.clone(), layer.clone());
    let server = Server::start(move |request| {
        if request.header("authorization").is_empty() {
            return Answer::status(401).with("www-authenticate", "Basic realm=\"r\"");
        }
        match object(request) == slow.digest().as_str() {
            true => Answer::ok(&slow.blob[..9]).wait(&held).send(&slow.blob[9..]),
            false => content.answer(request),
        }
    })
    .await;
    let node = Node::of(&server);
    let leader = node.spawn("a", Some(auth()));
    gate.reached().await;
    let refused = |error: PullError| {
        assert!(matches!(error.cause, Cause::Registry(_)), "{error}");
        assert!(!error.is_unavailable(), "{error}");
    };
    refused(node.pull("a").await.unwrap_err());
    assert_eq!(node.puller.jobs.waiting(&layer.wanted()), 1, "the leader alone waits");
    gate.open();
    leader.await.unwrap().unwrap();
    refused(node.pull("a").await.unwrap_err());
    let digest = layer.digest();
    let own = server.asked().into_iter().filter(|request| object(request) == digest.as_str());
    let given = own.filter(|request| !request.header("authorization").is_empty());
    assert_eq!(given.count(), 1, "it came for the leader alone");
}
