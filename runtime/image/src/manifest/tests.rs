use serde_json::{Value, json};

use super::*;
use crate::tests::Noise;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn digest(number: u8) -> String {
    format!("sha256:{}", format!("{number:02x}").repeat(32))
}

fn descriptor(media_type: &str, number: u8, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest(number), "size": size})
}

fn manifest(layers: &[Value]) -> Value {
    let config = descriptor("application/vnd.oci.image.config.v1+json", 0, 100);
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

fn entry(number: u8, platform: &Value) -> Value {
    let mut entry = descriptor(OCI_MANIFEST, number, 1000);
    entry["platform"] = platform.clone();
    entry
}

fn platform(name: &str) -> Value {
    let mut parts = name.split('/');
    let mut part = || parts.next().unwrap_or_default();
    json!({"os": part(), "architecture": part(), "variant": part()})
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn parse(document: &Value, content_type: &str) -> Result<Document, ManifestError> {
    let content_type = Some(content_type).filter(|text| !text.is_empty());
    Document::parse(document.to_string().as_bytes(), content_type)
}

fn parsed_manifest(document: &Value) -> Result<Manifest, ManifestError> {
    match parse(document, "")? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(index) => panic!("{index:?}"),
    }
}

fn choose(entries: &[Value], wanted: &Platform) -> Result<Choice, ManifestError> {
    match parse(&index(entries), OCI_INDEX).unwrap() {
        Document::Index(index) => index.choose(wanted),
        Document::Manifest(manifest) => panic!("{manifest:?}"),
    }
}

fn chosen(platforms: &[&str], wanted: &Platform) -> Option<usize> {
    let entry =
        |(number, name): (usize, &&str)| entry(u8::try_from(number).unwrap(), &platform(name));
    let entries: Vec<_> = platforms.iter().enumerate().map(entry).collect();
    let choice = choose(&entries, wanted).ok()?;
    (0..platforms.len()).find(|n| digest(u8::try_from(*n).unwrap()) == choice.blob.digest.as_str())
}

#[test]
fn manifest_of_oci_and_of_docker() {
    let layers = [
        descriptor(GZIP, 1, 10),
        descriptor("application/vnd.oci.image.layer.v1.tar", 2, 20),
        descriptor("application/vnd.oci.image.layer.v1.tar+zstd", 1, 30),
    ];
    let found = parsed_manifest(&manifest(&layers)).unwrap();
    assert_eq!((found.size, found.config.size), (160, 100));
    let compressions: Vec<_> = found.layers.iter().map(|layer| layer.compression).collect();
    assert_eq!(compressions, [Compression::Gzip, Compression::None, Compression::Zstd]);
    assert_eq!(found.layers[1].blob.digest.as_str(), digest(2));

    let mut docker = manifest(&[
        descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", 1, 10),
        descriptor("application/vnd.docker.image.rootfs.diff.tar", 2, 20),
        descriptor("application/vnd.docker.image.rootfs.diff.tar.zstd", 3, 20),
    ]);
    docker["mediaType"] = json!(DOCKER_MANIFEST);
    docker["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    let found = parsed_manifest(&docker).unwrap();
    let compressions: Vec<_> = found.layers.iter().map(|layer| layer.compression).collect();
    assert_eq!(compressions, [Compression::Gzip, Compression::ByContent, Compression::Zstd]);
}

#[test]
fn what_the_answer_is_must_be_said_once() {
    let (manifest, index) = (manifest(&[]), index(&[]));
    for content_type in ["", "application/json", "Application/VND.oci.image.manifest.v1+json ; q=1"]
    {
        assert!(matches!(parse(&manifest, content_type), Ok(Document::Manifest(_))));
    }
    let mut silent = index.clone();
    silent.as_object_mut().unwrap().remove("mediaType");
    for content_type in ["", OCI_INDEX, DOCKER_LIST, "text/plain"] {
        assert!(matches!(parse(&silent, content_type), Ok(Document::Index(_))));
    }
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    let mut lying = manifest.clone();
    lying["mediaType"] = json!(OCI_INDEX);
    let mut other = manifest.clone();
    other["mediaType"] = json!("application/vnd.cncf.helm\u{1b}.v1");
    let mut old = json!({"schemaVersion": 1, "fsLayers": [], "history": []});
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (document, content_type, problem) in [
        (&manifest, OCI_INDEX, "announced as an index, and has the content of a manifest"),
        (&index, DOCKER_MANIFEST, "announced as a manifest, and has the content of an index"),
        (&both, OCI_MANIFEST, "the content of an index and of a manifest"),
        (&lying, OCI_MANIFEST, "announced as an index"),
        (&other, "", "neither index nor manifest: its type is \"application/vnd.cncf.helm\\u{1b}"),
        (&json!({"schemaVersion": 2}), OCI_INDEX, "the content of neither"),
        (&json!({"layers": []}), "", "no schemaVersion 2"),
        (&json!([]), "", "is not valid: invalid"),
        (&old, "", "schema 1"),
        (&manifest, schema1, "schema 1"),
    ] {
        let error = parse(document, content_type).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    old["schemaVersion"] = json!(2);
    assert_eq!(parse(&old, ""), Err(ManifestError::Schema1));
}

#[test]
fn layers_that_can_not_be_used_are_named() {
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let nowhere = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let encrypted = format!("{GZIP}+encrypted");
    for (media_type, urls, problem) in [
        (foreign, true, "is not distributed by the registry"),
        (nowhere, true, "is not distributed by the registry"),
        (&encrypted, false, "is encrypted"),
        ("application/vnd.oci.image.layer.v1.tar+encrypted", false, "is encrypted"),
        ("application/vnd.oci.image.layer.v1.tar+xz", false, "is not supported"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip+x", false, "is not supported"),
        ("application/vnd.erofs.layer.v1", false, "is not supported"),
        ("application/vnd.in-toto+json", false, "is not supported"),
        ("", false, "is not supported"),
    ] {
        let mut layer = descriptor(media_type, 2, 1);
        if urls {
            layer["urls"] = json!(["https://elsewhere.example/layer"]);
        }
        let error = parsed_manifest(&manifest(&[descriptor(GZIP, 1, 1), layer])).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("layer 2 of the manifest: a layer of type {media_type:?}"))
        );
        assert!(error.contains(problem), "{error}");
    }
    // The registry has what names no other place, and an ordinary layer's other places don't count.
    let mut elsewhere_too = descriptor(GZIP, 1, 1);
    elsewhere_too["urls"] = json!(["https://elsewhere.example/layer"]);
    for layer in [descriptor(foreign, 1, 1), descriptor(nowhere, 1, 1), elsewhere_too] {
        let found = parsed_manifest(&manifest(&[layer])).unwrap();
        assert_eq!(found.layers[0].compression, Compression::Gzip);
    }
}

#[test]
fn sizes_and_counts_are_bounded() {
    let half = i64::MAX.unsigned_abs() / 2;
    let many = vec![descriptor(GZIP, 1, 1); MAX_LAYERS + 1];
    let mut helm = manifest(&[]);
    helm["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let mut large = manifest(&[]);
    large["config"]["size"] = json!(MAX_CONFIG_BYTES + 1);
    let mut unnamed = manifest(&[]);
    unnamed["config"]["digest"] = json!("md5:00");
    let mut negative = descriptor(GZIP, 1, 1);
    negative["size"] = json!(-1);
    for (document, problem) in [
        (manifest(&many), "there are 501 layers, and at most 500 are possible"),
        (manifest(&[descriptor(GZIP, 1, u64::MAX)]), "the layer has 18446744073709551615 bytes"),
        (manifest(&[descriptor(GZIP, 1, half), descriptor(GZIP, 2, half)]), "add up to more than"),
        (manifest(&[negative]), "`-1`"),
        (helm, "no container image: its configuration is of type \"application/vnd.cncf.helm"),
        (large, "the configuration has 4194305 bytes, and at most 4194304 are read"),
        (unnamed, "configuration"),
    ] {
        let error = parsed_manifest(&document).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert!(parsed_manifest(&manifest(&many[1..])).is_ok());
    let long = vec![b' '; usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1];
    let error = Document::parse(&long, None).unwrap_err().to_string();
    assert_eq!(error, "the manifest has 4194305 bytes, and at most 4194304 are read");
    let crowd = vec![entry(1, &platform("a/b")); MAX_ENTRIES + 1];
    let error = parse(&index(&crowd), "").unwrap_err().to_string();
    assert_eq!(error, "there are 4097 entries in the index, and at most 4096 are possible");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = Document::parse(deep.as_bytes(), None).unwrap_err().to_string();
    assert!(error.contains("is not valid"), "{error}");
    let unknown = format!(r#"{{"schemaVersion": "{}"}}"#, "x\\u001b".repeat(100_000));
    let error = Document::parse(unknown.as_bytes(), None).unwrap_err().to_string();
    assert!(error.len() < 500 && !error.contains('\u{1b}'), "{error}");
}

/// What containerd's `platforms.Only` chooses for linux/amd64, and for linux/amd64/v3.
#[test]
fn platform_is_chosen_as_containerd_does() {
    let guest = Platform::guest();
    assert_eq!(guest.to_string(), "linux/amd64");
    let v3 = Platform::new("linux", "x86_64", "v3");
    let (amd, all) = ("linux/amd64", ["linux/arm64/v8", "linux/386", "linux/amd64", "linux/amd64"]);
    for (platforms, for_guest, for_v3) in [
        (&all[..], Some(2), Some(2)),
        (&all[..2], Some(1), Some(1)),
        (&all[..1], None, None),
        (&["windows/amd64", "linux/x86_64"], Some(1), Some(1)),
        (&["linux/amd64/v2", amd, "linux/amd64/v3"], Some(1), Some(2)),
        (&["linux/amd64/v4", "linux/amd64/v2"], None, Some(1)),
        (&["linux/amd64/v4", "linux/386", "linux/amd64/v1"], Some(2), Some(2)),
        (&["linux/amd64/v0", "linux/amd64/x", "linux/arm/v7"], None, None),
        (&["/amd64"], Some(0), Some(0)),
        (&["unknown/unknown", "LINUX/AMD64"], Some(1), Some(1)),
        (&[], None, None),
    ] {
        assert_eq!(chosen(platforms, &guest), for_guest, "{platforms:?}");
        assert_eq!(chosen(platforms, &v3), for_v3, "{platforms:?}");
    }
    assert_eq!(chosen(&all, &Platform::new("linux", "aarch64", "8")), Some(0));
    assert_eq!(Platform::new("linux", "armhf", ""), Platform::new("linux", "arm", "7"));
}

#[test]
fn entries_that_are_no_image_are_skipped() {
    let guest = Platform::guest();
    let mut attestation = descriptor(OCI_MANIFEST, 1, 10);
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let other = descriptor("application/vnd.example+json", 2, 10);
    let mut able = entry(3, &platform("linux/amd64"));
    able["platform"]["os.features"] = json!(["erofs"]);
    let silent = descriptor(OCI_MANIFEST, 4, 10);
    let nested = descriptor(OCI_INDEX, 5, 10);
    let mut broken = entry(6, &platform("linux/arm64"));
    broken["digest"] = json!("blake3:00");
    let mut entries = vec![attestation, other, able, broken, silent, nested];
    let choice = choose(&entries, &guest).unwrap();
    assert_eq!(choice.blob.digest.as_str(), digest(4));
    assert_eq!((choice.kind, choice.platform_is_named), (Kind::Manifest, false));
    entries.remove(4);
    assert_eq!(choose(&entries, &guest).unwrap().kind, Kind::Index);
    let wanted = Platform::new("linux", "arm64", "");
    let error = choose(&entries, &wanted).unwrap_err().to_string();
    assert_eq!(error, "manifest in the index");
    entries.pop();
    let error = choose(&entries, &guest).unwrap_err().to_string();
    assert_eq!(error, "there is no image for linux/amd64: the index has linux/amd64, linux/arm64");
}

#[test]
fn platforms_that_there_are_instead_are_named_briefly() {
    let guest = Platform::guest();
    let error = choose(&[], &guest).unwrap_err().to_string();
    assert_eq!(error, "there is no image for linux/amd64: the index names no image");
    let odd = |n: u8| entry(n, &platform(&format!("z\u{1b}[2J{}/{n}", "x".repeat(5000))));
    let entries: Vec<_> = (0..50).map(odd).collect();
    let error = choose(&entries, &guest).unwrap_err().to_string();
    assert!(error.ends_with("… and 40 more") && error.len() < 700, "{error}");
    assert!(!error.contains('\u{1b}'));
}

fn config(diff_ids: &[String]) -> Value {
    json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": null, "Labels": null, "User": "1000",
            "ExposedPorts": {"80/tcp": {}}, "OnBuild": null, "ArgsEscaped": true},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "x", "empty_layer": true}], "docker_version": "1"
    })
}

#[test]
fn configuration_has_the_manifests_layers() {
    let manifest =
        parsed_manifest(&manifest(&[descriptor(GZIP, 1, 1), descriptor(GZIP, 2, 1)])).unwrap();
    let parse = |config: &Value| ImageConfig::parse(config.to_string().as_bytes(), &manifest);
    let found = parse(&config(&[digest(7), digest(7)])).unwrap();
    assert_eq!(found.diff_ids[0].as_str(), digest(7));
    assert_eq!(Platform::guest().runs(&found.platform), Some(0));
    let settings = found.oci.config().as_ref().unwrap();
    assert_eq!(settings.user().as_deref(), Some("1000"));
    let mut elsewhere = config(&[digest(7), digest(8)]);
    elsewhere["architecture"] = json!("arm64");
    assert_eq!(Platform::guest().runs(&parse(&elsewhere).unwrap().platform), None);
    let mut other = elsewhere.clone();
    other["rootfs"]["type"] = json!("plates");
    let mut wrong = elsewhere.clone();
    wrong["rootfs"]["diff_ids"][1] = json!("../x");
    for (config, problem) in [
        (&config(&[digest(7)]), "the manifest has 2 layers, and its configuration has 1"),
        (&other, "its root file system is of type \"plates\""),
        (&wrong, "layer of the configuration"),
        (&json!({}), "the configuration is not valid: missing field"),
    ] {
        let error = parse(config).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let long = vec![b' '; usize::try_from(MAX_CONFIG_BYTES).unwrap() + 1];
    assert!(matches!(ImageConfig::parse(&long, &manifest), Err(ManifestError::TooLarge { .. })));
}

#[test]
fn damaged_answers_make_errors() {
    let mut noise = Noise::new(2);
    let layers = [descriptor(GZIP, 1, 10), descriptor(GZIP, 2, 20)];
    let whole = manifest(&layers);
    let accepted = parsed_manifest(&whole).unwrap();
    let documents = [
        whole.to_string(),
        index(&[entry(1, &platform("linux/amd64")), entry(2, &json!(null))]).to_string(),
        config(&[digest(1), digest(2)]).to_string(),
    ];
    let mut refused = 0;
    for round in 0..20_000 {
        let body = noise.damaged(&documents[round % documents.len()]);
        let problem = match Document::parse(&body, None) {
            Ok(Document::Index(index)) => index.choose(&Platform::guest()).err(),
            Ok(Document::Manifest(found)) => {
                assert!(found.layers.len() <= MAX_LAYERS && found.size < 1 << 63);
                None
            }
            Err(error) => Some(error),
        };
        let problems = [problem, ImageConfig::parse(&body, &accepted).err()];
        for error in problems.iter().flatten() {
            refused += 1;
            let text = error.to_string();
            assert!(text.len() < 2000 && !text.contains(char::is_control), "{text}");
        }
    }
    assert!(refused > 10_000);
}
