//! Indexes, manifests and configurations.

use super::*;
use crate::manifest::MAX_INDEX_DEPTH;

async fn image(server: &Server) -> Result<Image, RegistryError> {
    let registry = from(server, Login::Nobody, patience()).await;
    registry.image(&Platform::guest()).await
}

/// The error's text when all documents are answered so.
async fn refused(answer: Answer) -> String {
    let server = Server::start(move |_| answer.clone()).await;
    told(&image(&server).await.unwrap_err())
}

#[tokio::test]
async fn a_tag_leads_by_index_and_manifest_to_the_configuration() {
    let sample = Sample::new();
    let (index, manifest) = (sample.index.clone(), sample.manifest.clone());
    let (config, blob) = (sample.config.clone(), sample.blob());
    let server = Server::start(move |request| sample.answer(request)).await;
    let image = image(&server).await.unwrap();
    assert_eq!(image.digest, Digest::of(index.as_bytes()));
    let bodies: Vec<_> = image.documents.iter().map(|document| &document.body[..]).collect();
    assert_eq!(bodies, [index.as_bytes(), manifest.as_bytes()]);
    assert_eq!(image.manifest.layers[0].blob, blob);
    assert_eq!(image.config_text, config);
    assert_eq!(image.config.diff_ids, [blob.digest]);
    let repository = "/v2/some/image";
    let expected = [
        format!("{repository}/manifests/latest?ns=registry.test"),
        format!("{repository}/manifests/{}?ns=registry.test", Digest::of(manifest.as_bytes())),
        format!("{repository}/blobs/{}?ns=registry.test", Digest::of(config.as_bytes())),
    ];
    assert_eq!(server.paths(), expected);
    let first = &server.asked()[0];
    assert_eq!(first.header("accept"), crate::manifest::ACCEPT);
    assert!(first.header("user-agent").starts_with("cuddy/"));
    assert!(!first.headers.contains_key("range") && !first.headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_document_is_what_its_digest_says() {
    let sample = Sample::new();
    let (manifest, other) = (sample.manifest.clone(), Sample::new().index);
    let digest = Digest::of(manifest.as_bytes());
    let answer = Answer::ok(other.as_bytes());
    let liar = Server::start(move |_| answer.clone()).await;
    let honest = Server::start(move |request| sample.answer(request)).await;
    for (server, right) in [(&liar, false), (&honest, true)] {
        let registry = from(server, Login::Nobody, patience()).await;
        let got = registry.document(&Object::Digest(digest.clone())).await;
        match got {
            Ok(document) => assert!(right && document.body == manifest),
            Err(error) => {
                let expected =
                    format!("content of {digest} hashes to {}", Digest::of(other.as_bytes()));
                assert!(!right && told(&error).contains(&expected), "{error}");
                assert_eq!((error.class(), server.asked().len()), (Class::Invalid, 1));
            }
        }
    }
}

#[tokio::test]
async fn what_a_registry_says_of_a_tag_must_be_true() {
    let index = Sample::new().index;
    let named = |digest: &str| Answer::ok(index.as_bytes()).with("docker-content-digest", digest);
    let text = refused(named(Digest::of(b"other").as_str())).await;
    assert!(text.contains("hashes to"), "{text}");
    let text = refused(named("sha256:0")).await;
    assert!(text.contains("it says that the tag means \"sha256:0\""), "{text}");
    // A manifest by tag of another size than the index said.
    let sample = Sample::new();
    let index = sample.index.replace(r#""size":"#, r#""size":1"#);
    let server = Server::start(move |request| match request.path.contains("latest") {
        true => Answer::ok(index.as_bytes()),
        false => sample.answer(request),
    });
    let text = told(&image(&server.await).await.unwrap_err());
    assert!(text.contains("ended after"), "{text}");
}

#[tokio::test]
async fn documents_that_no_image_can_be_made_of_are_refused_in_a_sentence() {
    let old = Answer::ok(br#"{"schemaVersion":1,"fsLayers":[]}"#);
    let text =
        refused(old.with("content-type", "application/vnd.docker.distribution.manifest.v1+json"))
            .await;
    assert!(text.contains("Docker's old format \"schema 1\""), "{text}");
    let text = refused(Answer::ok(b"<html>")).await;
    assert!(text.contains("the manifest is not valid"), "{text}");
    let arm = Sample::new().index.replace("amd64", "arm64");
    let text = refused(Answer::ok(arm.as_bytes())).await;
    assert_eq!(text, "there is no image for linux/amd64: the index has linux/arm64");
}

#[tokio::test]
async fn an_image_for_another_platform_is_found_by_its_configuration() {
    let mut sample = Sample::new();
    let before = Digest::of(sample.config.as_bytes());
    sample.config = sample.config.replace("amd64", "arm64");
    let after = Digest::of(sample.config.as_bytes());
    sample.manifest = sample.manifest.replace(before.as_str(), after.as_str());
    sample.index = sample.manifest.clone();
    let server = Server::start(move |request| sample.answer(request)).await;
    let text = told(&image(&server).await.unwrap_err());
    assert_eq!(text, "there is no image for linux/amd64: it is for linux/arm64");
}

#[tokio::test]
async fn an_endless_document_is_not_read_to_its_end() {
    let large = "the manifest has";
    let text = refused(Answer::status(200).endless(&[b' '; 1 << 16])).await;
    assert!(text.contains(large) && text.contains("at most 4194304 are read"), "{text}");
    let text = refused(Answer::status(200).length(1 << 40).hang()).await;
    assert!(text.contains("the manifest has 1099511627776 bytes"), "{text}");
    let text = refused(Answer::status(404).endless(b"<html> ")).await;
    assert!(text.ends_with("it answered 404"), "{text}");
}

#[tokio::test]
async fn indexes_that_name_each_other_end() {
    let mut texts = vec![Sample::new().index];
    for _ in 0..=MAX_INDEX_DEPTH {
        let (last, base) = (texts.last().unwrap(), Sample::new());
        let (digest, size) = (Digest::of(last.as_bytes()), last.len());
        let (old, length) = (Digest::of(base.manifest.as_bytes()), base.manifest.len());
        let next = base.index.replace(old.as_str(), digest.as_str());
        let next = next.replace(&format!("\"size\":{length}"), &format!("\"size\":{size}"));
        texts.push(next.replace("image.manifest.v1", "image.index.v1"));
    }
    let server = Server::start(move |request| {
        let named = |text: &&String| request.path.contains(Digest::of(text.as_bytes()).as_str());
        let text = texts.iter().find(named).unwrap_or_else(|| texts.last().unwrap());
        Answer::ok(text.as_bytes())
    });
    let text = told(&image(&server.await).await.unwrap_err());
    assert!(text.contains("indexes that name each other"), "{text}");
}
