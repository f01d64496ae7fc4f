use super::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image whose index leads to a manifest, and that to a configuration.
struct Sample {
    index: Vec<u8>,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let describe = |kind: &str, content: &[u8]| {
            let kind = format!("application/vnd.oci.image.{kind}.v1+json");
            serde_json::json!({
                "mediaType": kind, "digest": Digest::of(content), "size": content.len(),
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": describe("config", config), "layers": [],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut named = describe("manifest", &manifest);
        named["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]});
        Self { index: index.to_string().into_bytes(), manifest, config: config.to_vec() }
    }

    fn by_digest(&self) -> Reference {
        let reference: Reference = "registry.test/a:b".parse().unwrap();
        reference.with_digest(Digest::of(&self.index))
    }
}

fn take(checked: &mut Checked<'_>, body: &[u8]) -> Result<(), Untrue> {
    checked.document(Digest::of(body), None, body.to_vec())
}

#[test]
fn documents_that_lead_to_each_other_are_an_image() {
    let (sample, platform) = (Sample::new(), Platform::guest());
    for reference in ["registry.test/a:b".parse().unwrap(), sample.by_digest()] {
        let mut checked = Checked::new(&reference, &platform);
        let index = Digest::of(&sample.index);
        checked.document(index.clone(), Some(INDEX.to_owned()), sample.index.clone()).unwrap();
        take(&mut checked, &sample.manifest).unwrap();
        let image = checked.config(sample.config.clone()).unwrap();
        assert_eq!((image.digest, image.documents.len()), (index, 2));
        assert_eq!(image.manifest.config.digest, Digest::of(&sample.config));
    }
}

#[test]
fn process_that_pulls_can_not_tell_of_another_image() {
    let (sample, platform) = (Sample::new(), Platform::guest());
    let begun = |documents: &[&[u8]]| {
        let mut checked = Checked::new(&sample.by_digest(), &platform);
        documents.iter().for_each(|body| take(&mut checked, body).unwrap());
        checked
    };
    let (index, manifest) = (sample.index.as_slice(), sample.manifest.as_slice());
    assert!(
        matches!(take(&mut begun(&[]), manifest), Err(Untrue::Other(..))),
        "not what was asked"
    );
    let digest = Digest::of(index);
    let forged = begun(&[]).document(digest, None, manifest.to_vec());
    assert!(matches!(forged, Err(Untrue::Content(_))), "the bytes are hashed");
    assert!(matches!(take(&mut begun(&[index]), index), Err(Untrue::Other(..))));
    let spaced = [manifest, b" "].concat();
    assert!(matches!(take(&mut begun(&[index]), &spaced), Err(Untrue::Other(..))));
    assert!(matches!(take(&mut begun(&[index, manifest]), manifest), Err(Untrue::Order)));
    assert!(matches!(begun(&[index]).config(sample.config.clone()), Err(Untrue::Order)));
    let config = begun(&[index, manifest]).config(b"{}".to_vec());
    assert!(matches!(config, Err(Untrue::Content(_))));
}
