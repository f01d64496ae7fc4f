use regex::Regex;

use super::*;
use crate::tests::Noise;

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";

fn whole(text: &str) -> String {
    text.parse::<Reference>().unwrap_or_else(|error| panic!("{error}")).to_string()
}

fn refusal(text: &str) -> Problem {
    let error = text.parse::<Reference>().expect_err(text);
    assert!(error.to_string().contains(&quoted(text)), "{error}");
    error.problem
}

/// Vectors of the original's `TestParseDockerRef`, `TestParseRepositoryInfo` and
/// `TestNormalizedSplitHostname`: input, whole name, familiar name.
#[test]
fn names_are_completed_as_docker_does() {
    let sha512 = format!("x@sha512:{}", "0".repeat(128));
    for (text, domain, path, familiar) in [
        ("busybox", "docker.io", "library/busybox", "busybox"),
        ("library/busybox", "docker.io", "library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io", "library/busybox", "busybox"),
        ("docker.io/library/busybox", "docker.io", "library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io", "library/busybox", "busybox"),
        ("index.docker.io/fooo/bar", "docker.io", "fooo/bar", "fooo/bar"),
        ("nonlibrary/ubuntu", "docker.io", "nonlibrary/ubuntu", "nonlibrary/ubuntu"),
        ("library/foo/bar", "docker.io", "library/foo/bar", "library/foo/bar"),
        ("ubuntu-12.04-base", "docker.io", "library/ubuntu-12.04-base", "ubuntu-12.04-base"),
        ("localhost/fooo", "localhost", "fooo", "localhost/fooo"),
        ("localhost", "docker.io", "library/localhost", "localhost"),
        ("LOCALDOMAIN/fooo/bar", "LOCALDOMAIN", "fooo/bar", "LOCALDOMAIN/fooo/bar"),
        ("Foo/bar", "Foo", "bar", "Foo/bar"),
        ("127.0.0.1:8000/p/b", "127.0.0.1:8000", "p/b", "127.0.0.1:8000/p/b"),
        ("example.com/p", "example.com", "p", "example.com/p"),
        ("test_com/foo", "docker.io", "test_com/foo", "test_com/foo"),
        ("test-com:8080/foo", "test-com:8080", "foo", "test-com:8080/foo"),
        ("test:5000/repo", "test:5000", "repo", "test:5000/repo"),
        ("xn--n3h.com:18080/foo", "xn--n3h.com:18080", "foo", "xn--n3h.com:18080/foo"),
        ("[fc00::1]:5000/docker", "[fc00::1]:5000", "docker", "[fc00::1]:5000/docker"),
        ("[2001:db8:1:2:3:4:5:6]/r", "[2001:db8:1:2:3:4:5:6]", "r", "[2001:db8:1:2:3:4:5:6]/r"),
        ("192.168.0.1", "docker.io", "library/192.168.0.1", "192.168.0.1"),
        ("foo_bar.com/app", "foo_bar.com", "app", "foo_bar.com/app"),
    ] {
        let reference: Reference = text.parse().unwrap();
        assert_eq!((reference.domain(), reference.path()), (domain, path), "{text}");
        assert_eq!(reference.tag(), Some("latest"), "{text}");
        assert_eq!(reference.to_string(), format!("{domain}/{path}:latest"));
        assert_eq!(reference.familiar(), format!("{familiar}:latest"), "{text}");
    }
    assert_eq!(whole(&sha512), format!("docker.io/library/{sha512}"));
}

#[test]
fn tag_and_digest() {
    assert_eq!(whole("192.168.0.1:80"), "docker.io/library/192.168.0.1:80");
    assert_eq!(whole("test:5000/repo:tag"), "test:5000/repo:tag");
    assert_eq!(whole("lowercase:Uppercase"), "docker.io/library/lowercase:Uppercase");
    assert_eq!(whole("b.io/test.e.com/my-app:test.e.com"), "b.io/test.e.com/my-app:test.e.com");
    let digested = format!("docker.io/library/busybox@{SHA256}");
    assert_eq!(whole(&format!("busybox@{SHA256}")), digested);
    assert_eq!(whole(&format!("busybox:1.36@{SHA256}")), digested);
    let reference: Reference = digested.parse().unwrap();
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.digest().map(Digest::as_str), Some(SHA256));
    assert_eq!(reference.familiar(), format!("busybox@{SHA256}"));
    assert_eq!(reference.name(), "docker.io/library/busybox");
    let tagged: Reference = "busybox:1".parse().unwrap();
    assert_eq!(tagged.with_digest(Digest::of(b"")), reference);
}

/// Vectors of the original's `TestReferenceParse`, `TestValidateReferenceName`,
/// `TestValidateRemoteName` and `TestFullNameRegexp`.
#[test]
fn names_that_the_original_takes_are_taken() {
    let digits = format!("docker.io/{ID}");
    let (longest, slashes) = ("a".repeat(255), format!("a.b/{}a:tag", "a/".repeat(127)));
    let tag = format!("a:{}", "t".repeat(128));
    for text in [
        "docker/docker",
        "docker---rules/docker",
        "dock__er/docker",
        "d/docker",
        "thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev",
        "Docker/docker",
        "192.168.0.2:25000/debian",
        "a/a/a/a",
        "example.com/some_separator__underscore/myimage",
        "0101.com/a",
        "a:_t",
        &digits,
        &format!("example.com/{longest}:tag"),
        &slashes,
        &tag,
    ] {
        whole(text);
    }
}

#[test]
fn names_that_the_original_refuses_are_refused() {
    let long = format!("docker.io/{}", "a".repeat(256));
    let tag = format!("a:{}", "t".repeat(129));
    for text in [
        ":justtag",
        "docker/Docker",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "-docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker///docker",
        "docker-/docker",
        "_docker/_docker",
        "____/____",
        "dock..er/docker",
        "dock_.er/docker",
        "dock-.er/docker",
        "docker/",
        "/docker",
        "aa/asdf$$^/aa",
        "a^a",
        "foo.com:http/bar",
        "foo_bar.com:8080/app",
        "ab-.com/a",
        "ab..com/a",
        "[fc00::1]",
        "[2001:db8::1]:tag",
        "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian",
        "[2001:db8:3:4::192.0.2.33]:5000/debian",
        "[fd00:1:2::3]75050/a",
        "[fd00:1:2::3]::75050/a",
        "repo@sha256:ffffffffffffffffffffffffffffffffff",
        "repo@",
        "repo:",
        "repo:-tag",
        "repo:a:b",
        " repo",
        "repo\n",
        "répo",
        "ÄRGER/a",
        &long,
        &tag,
        &format!("@{SHA256}"),
        &format!("repo@{SHA256}@{SHA256}"),
        &format!("repo@{SHA256}:tag"),
        &format!("repo@{}", SHA256.to_uppercase()),
        &format!("repo@md5:{}", "f".repeat(32)),
    ] {
        refusal(text);
    }
}

#[test]
fn errors_say_what_is_wrong_and_the_way_out() {
    for (text, way) in [
        ("", "write a name such as docker.io/library/busybox:latest"),
        (ID, "write NAME@sha256:DIGITS"),
        ("https://github.com/docker/docker", "leave out what stands before the host"),
        ("https:/github.com/docker", "leave out what stands before the host"),
        ("fc00::1:5000/debian", "an IPv6 address in brackets"),
        ("[fd00123123123]:5000/a", "an IPv6 address in brackets"),
        ("host:65536/a", "\"65536\" is no port: write a number up to 65535"),
        ("host:/a", "leave out what stands before the host"),
        ("host.com/Nginx", "\"Nginx\" has capital letters: write it in lower case"),
        ("host.com/a//b", "\"\" can't be a part of a repository's name"),
        ("a:b c", "\"b c\" is no tag"),
        ("a@sha1:0", "sha256, sha384 and sha512 are known"),
    ] {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.ends_with(way) || error.contains(way), "{error}");
    }
    let million = "a".repeat(1 << 20);
    for text in [&million, &format!("{million}.com/a"), &format!("a:{million}")] {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.len() < 1000, "{error}");
    }
}

#[test]
fn short_names_mean_the_same_image() {
    for text in ["docker.io/localhost/foo", "docker.io/foo.bar/x", &format!("docker.io/{ID}")] {
        let reference: Reference = text.parse().unwrap();
        assert!(reference.familiar().parse() == Ok(reference), "{text}");
    }
}

#[test]
fn an_image_that_is_here_has_an_id_too() {
    let id = |text: &str| match text.parse().unwrap() {
        ImageName::Id(id) => id.to_string(),
        ImageName::Reference(reference) => panic!("{reference}"),
    };
    assert_eq!(id(ID), format!("sha256:{ID}"));
    assert_eq!(id(SHA256), SHA256);
    let named = |text: &str| ImageName::Reference(text.parse().unwrap());
    for text in [&ID[1..], "dbcc1", "redis:latest", "sha256:dbcc1"] {
        assert_eq!(text.parse::<ImageName>().unwrap(), named(text), "{text}");
    }
}

/// `ParseDockerRef` of the original, by its regular expressions: the whole name.
struct Original {
    reference: Regex,
    name: Regex,
}

impl Original {
    fn new() -> Self {
        let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
        let host = format!(r"(?:{label}(?:\.{label})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
        let component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
        let path = format!("{component}(?:/{component})*");
        let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
        let reference = format!("^((?:{host}/)?{path})(?::({tag}))?(?:@({digest}))?$");
        let name = format!("^(?:({host})/)?({path})$");
        Self { reference: Regex::new(&reference).unwrap(), name: Regex::new(&name).unwrap() }
    }

    fn parse(&self, text: &str) -> Option<String> {
        if text.len() == 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte)) {
            return None;
        }
        let (domain, rest) = match text.split_once('/') {
            None => ("docker.io", format!("library/{text}")),
            Some((first, rest)) => {
                let is_domain = first == "localhost" || first.contains(['.', ':']);
                let (domain, rest) = match first {
                    "index.docker.io" => ("docker.io", rest),
                    _ if is_domain || first.to_lowercase() != first => (first, rest),
                    _ => ("docker.io", text),
                };
                let official = domain == "docker.io" && !rest.contains('/');
                (domain, if official { format!("library/{rest}") } else { rest.to_owned() })
            }
        };
        let remote = rest.split(':').next().unwrap();
        if remote.to_lowercase() != remote {
            return None;
        }
        let whole = format!("{domain}/{rest}");
        let parts = self.reference.captures(&whole)?;
        let name = self.name.captures(&parts[1])?;
        let digest = match parts.get(3) {
            Some(digest) => Some(digest.as_str().parse::<Digest>().ok()?),
            None => None,
        };
        let tag = parts.get(2).map_or("latest", |tag| tag.as_str());
        let end = digest.map_or_else(|| format!(":{tag}"), |digest| format!("@{digest}"));
        (name[2].len() <= 255).then(|| format!("{}{end}", &parts[1]))
    }
}

/// A name made of parts that are nearly right.
fn made_up(noise: &mut Noise) -> String {
    let hosts =
        ["", "a.b/", "localhost/", "h:5000/", "[::1]:8/", "index.docker.io/", "A/", "a_b.c/"];
    let tags = ["", ":t", ":T.1-x_", ":", ":-", ":a:b"];
    let digest = format!("@{SHA256}");
    let ends = ["", "", digest.as_str(), "@", "@sha256:00", "@x"];
    let path = noise.pick(&["", "a", "b/"]).to_owned() + &noise.text("abc0abc0-_./A", 6) + "z";
    let name = noise.pick(&hosts).to_owned() + &path + noise.pick(&tags) + noise.pick(&ends);
    if noise.below(4) > 0 { name } else { String::from_utf8_lossy(&noise.damaged(&name)).into() }
}

#[test]
fn names_are_read_as_the_original_reads_them() {
    let (original, mut noise) = (Original::new(), Noise::new(1));
    let (mut read, mut refused, mut shown) = (0, 0, 0);
    for round in 0..60_000 {
        let text =
            if round % 2 == 0 { made_up(&mut noise) } else { noise.text("ab.0-_/:@AB[]", 16) };
        match text.parse::<Reference>() {
            Ok(reference) => {
                read += 1;
                assert_eq!(original.parse(&text), Some(reference.to_string()), "{text}");
                assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference), "{text}");
                assert_eq!(reference.familiar().parse().as_ref(), Ok(&reference), "{text}");
            }
            Err(error) => {
                refused += 1;
                shown = shown.max(error.to_string().len());
                // What can't be connected to is refused here, and there only later.
                let host = matches!(error.problem, Problem::Port(_) | Problem::Host(_));
                assert!(original.parse(&text).is_none() || host, "{text}: {error}");
            }
        }
    }
    assert!(read > 5000 && refused > 5000, "{read} names could be read, {refused} not");
    assert!(shown < 1000, "an error of {shown} bytes");
}
