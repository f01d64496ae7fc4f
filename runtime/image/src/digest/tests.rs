use super::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: [&str; 3] = [
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
     8086072ba1e7cc2358baeca134c825a7",
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
     2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
];

#[test]
fn known_hashes_of_known_content() {
    assert_eq!(Digest::of(b"").as_str(), EMPTY);
    for text in ABC {
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.hex().len(), digest.algorithm().digits());
        assert_eq!(format!("{}:{}", digest.algorithm(), digest.hex()), text);
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), digest);
    }
}

#[test]
fn what_is_no_digest_is_refused_and_named() {
    let upper = ABC[0].to_uppercase().replace("SHA", "sha");
    let wide = "é".repeat(32);
    for (text, problem) in [
        ("", "names no algorithm"),
        ("ba7816bf", "names no algorithm"),
        (":ba7816bf", "unknown algorithm"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "unknown algorithm"),
        ("SHA256:00", "unknown algorithm"),
        ("sha256:", "has 0 digits, and sha256 has 64"),
        (&EMPTY[..70], "has 63 digits"),
        (&ABC[2].replace("sha512", "sha256"), "has 128 digits"),
        (&upper, "lower case"),
        (&EMPTY.replace("e3", "g3"), "lower case"),
        (&format!("sha256:{wide}"), "lower case"),
        (&format!("sha256:../{}", &EMPTY[10..]), "lower case"),
    ] {
        let error = text.parse::<Digest>().unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
        assert!(error.contains(&crate::text::quoted(text)), "{text}: {error}");
    }
}

#[test]
fn a_digest_goes_through_json_as_text() {
    let digest: Digest = EMPTY.parse().unwrap();
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(json, format!("{EMPTY:?}"));
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    assert!(serde_json::from_str::<Digest>("\"sha256:../x\"").is_err());
}

#[test]
fn content_is_checked_against_name_and_size() {
    let digest: Digest = ABC[0].parse().unwrap();
    let check = |size, parts: &[&str]| {
        let mut verifier = Verifier::new(digest.clone(), size);
        for part in parts {
            verifier.update(part.as_bytes())?;
        }
        verifier.finish()
    };
    assert_eq!(check(Some(3), &["a", "bc"]), Ok(3));
    assert_eq!(check(None, &["abc"]), Ok(3));
    let (longer, shorter) = (check(Some(2), &["abc"]), check(Some(4), &["abc"]));
    assert_eq!(longer, Err(Mismatch::TooLong { digest: digest.clone(), expected: 2 }));
    let short = Mismatch::TooShort { digest: digest.clone(), found: 3, expected: 4 };
    assert_eq!(shorter, Err(short));
    let found = Digest::of(b"abd");
    assert_eq!(check(Some(3), &["abd"]), Err(Mismatch::Hash { expected: digest, found }));
}

#[test]
fn a_broken_transfer_goes_on_where_it_was() {
    let mut verifier = Verifier::new(ABC[0].parse().unwrap(), Some(3));
    verifier.update(b"ab").unwrap();
    let mut other_try = verifier.clone();
    assert_eq!(other_try.taken(), 2);
    assert!(other_try.update(b"xy").is_err());
    assert_eq!(other_try.taken(), 2);
    verifier.update(b"c").unwrap();
    assert_eq!(verifier.finish(), Ok(3));
}
