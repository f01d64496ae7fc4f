use std::fs;
use std::path::Path;

use super::*;
use crate::tests::Noise;

fn parse(text: &str) -> Result<HostsFile, HostsError> {
    HostsFile::parse(text, Path::new("/etc/certs.d/docker.io/hosts.toml"))
}

fn endpoints(text: &str, registry: &str) -> Vec<Endpoint> {
    parse(text).unwrap_or_else(|error| panic!("{error}")).endpoints(registry)
}

fn default_endpoint(registry: &str) -> Endpoint {
    endpoints("", registry).remove(0)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// The file of containerd's `TestParseHostFile`.
const CONTAINERDS: &str = r#"
server = "https://test-default.registry"
ca = "/etc/path/default"
[header]
  x-custom-1 = "custom header"

[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "/etc/certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]

[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true

[host."http://mirror.registry"]
  capabilities = ["pull"]

[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push", "referrers"]
  ca = ["/etc/certs/test-1-ca.pem", "/etc/certs/special.pem"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"],["/etc/certs/client.pem", ""]]

[host."https://test-2.registry"]
  client = "/etc/certs/client.pem"

[host."https://test-3.registry"]
  client = ["/etc/certs/client-1.pem", "/etc/certs/client-2.pem"]

[host."https://noncompliantmirror.registry/v2/namespaceprefix"]
  capabilities = ["pull"]
  override_path = true

[host."https://noprefixnoncompliant.registry"]
  override_path = true

[host."https://onlyheader.registry".header]
  x-custom-1 = "justaheader"

[host."https://dial-timeout.registry"]
  dial_timeout = "3s"
"#;

#[test]
fn the_file_of_containerds_test_means_the_same() {
    let list = endpoints(CONTAINERDS, "docker.io");
    let places: Vec<_> =
        list.iter().map(|e| format!("{:?} {} {}", e.transports, e.host, e.path)).collect();
    assert_eq!(
        places,
        [
            "[Https] mirror.registry /v2",
            "[Https] mirror-bak.registry /us/v2",
            "[Http] mirror.registry /v2",
            "[Https] test-1.registry /v2",
            "[Https] test-2.registry /v2",
            "[Https] test-3.registry /v2",
            "[Https] noncompliantmirror.registry /v2/namespaceprefix",
            "[Https] noprefixnoncompliant.registry ",
            "[Https] onlyheader.registry /v2",
            "[Https] dial-timeout.registry /v2",
            "[Https] test-default.registry /v2",
        ]
    );
    let pull = Capabilities { resolve: false, push: false, referrers: false, ..Capabilities::ALL };
    let only_pull: Vec<_> = list.iter().map(|e| e.capabilities == pull).collect();
    let expected = [true, true, true, false, false, false, true, false, false, false, false];
    assert_eq!(only_pull, expected);
    let others = list.iter().filter(|e| e.capabilities != pull);
    assert!(others.into_iter().all(|e| e.capabilities == Capabilities::ALL));
    assert_eq!(list[0].tls.ca, [Path::new("/etc/certs/mirror.pem")]);
    assert!(!list[0].tls.skip_verify && list[1].tls.skip_verify);
    let values: Vec<_> = list[0].headers.get_all("x-custom-2").iter().collect();
    assert_eq!(values, ["value1", "value2"]);
    assert_eq!(list[3].tls.ca.len(), 2);
    let file = |name: &str| Path::new("/etc/certs").join(name);
    let client = |certificate: &str, key: Option<&str>| ClientCertificate {
        certificate: file(certificate),
        key: key.map(file),
    };
    let pairs = [client("client.cert", Some("client.key")), client("client.pem", None)];
    assert_eq!(list[3].tls.client, pairs);
    assert_eq!(list[4].tls.client, [client("client.pem", None)]);
    assert_eq!(list[5].tls.client, ["client-1.pem", "client-2.pem"].map(|c| client(c, None)));
    assert_eq!(list[8].headers["x-custom-1"], "justaheader");
    assert_eq!(list[9].dial_timeout, Some(Duration::from_secs(3)));
    assert_eq!(list[10].headers["x-custom-1"], "custom header");
    assert!(list.iter().all(|e| e.namespace.as_deref() == Some("docker.io")));
    let shown = format!("{list:?}");
    assert!(!shown.contains("value1") && !shown.contains("justaheader"), "{shown}");
}

/// The table of containerd's `TestHTTPFallback`, without its client's own settings.
#[test]
fn registries_without_a_file_have_their_own_server() {
    let (tls, clear, both) =
        (&[Transport::Https][..], &[Transport::Http][..], &[Transport::Https, Transport::Http][..]);
    for (registry, transports, believed) in [
        ("localhost:8080", both, true),
        ("localhost:80", clear, false),
        ("localhost:443", tls, true),
        ("localhost", tls, true),
        ("127.0.0.254:5000", both, true),
        ("127.0.0.254", tls, true),
        ("[::1]:5000", both, true),
        ("[::1]", tls, true),
        ("[::ffff:7f00:1]:5000", both, true),
        ("[2001:db8::1]:5000", tls, false),
        ("example.com:5000", tls, false),
        ("example.com", tls, false),
        ("localhost.example.com:5000", tls, false),
        ("10.0.0.1:5000", tls, false),
    ] {
        let endpoint = default_endpoint(registry);
        assert_eq!(endpoint.transports, transports, "{registry}");
        assert_eq!(endpoint.tls.skip_verify, believed, "{registry}");
        assert_eq!((endpoint.host.as_str(), endpoint.path.as_str()), (registry, "/v2"));
        assert_eq!((endpoint.namespace, endpoint.capabilities), (None, Capabilities::ALL));
    }
    let hub = default_endpoint("docker.io");
    assert_eq!((hub.host.as_str(), hub.namespace), ("registry-1.docker.io", None));
}

#[test]
fn what_a_file_says_of_the_registrys_own_server_counts() {
    let text = "skip_verify = false\nca = 'a.crt'\ncapabilities = ['push']\n[header]\na = 'b'";
    let endpoint = endpoints(text, "localhost:5000").remove(0);
    assert!(!endpoint.tls.skip_verify);
    assert_eq!(endpoint.tls.ca, [Path::new("/etc/certs.d/docker.io/a.crt")]);
    assert_eq!(endpoint.headers["a"], "b");
    // containerd's: the registry itself may always do all.
    assert_eq!(endpoint.capabilities, Capabilities::ALL);
    assert_eq!(endpoint.transports, [Transport::Https, Transport::Http]);
    let named = "server = 'registry.example'\ncapabilities = ['Pull']\nca = '../b.crt'";
    let endpoint = endpoints(named, "docker.io").remove(0);
    assert!(endpoint.capabilities.pull && !endpoint.capabilities.resolve);
    assert_eq!(endpoint.tls.ca, [Path::new("/etc/certs.d/docker.io/../b.crt")]);
    assert_eq!(endpoints("server = ''", "a.b").remove(0).host, "a.b");
}

#[test]
fn mirrors_count_in_the_files_order_however_they_are_written() {
    let text = "host.'z.example'.capabilities = []\n[host.'b.example'.header]\nx = '1'\n\
        [host.'b.example']\nskip_verify = true\n[host.'a.example']\n[host.'http://c.example:80/']";
    let hosts: Vec<_> = endpoints(text, "docker.io").into_iter().map(|e| e.host).collect();
    assert_eq!(
        hosts,
        ["z.example", "b.example", "a.example", "c.example:80", "registry-1.docker.io"]
    );
    let clear = "[host.'http://m:5000']\nskip_verify = true\n[host.'http://m:80']\nca = 'x'";
    let transports: Vec<_> = endpoints(clear, "a.b").into_iter().map(|e| e.transports).collect();
    assert_eq!(transports[0], [Transport::Https, Transport::Http]);
    assert_eq!(transports[1], [Transport::Http]);
}

#[test]
fn addresses_of_manifests_and_blobs() {
    let tag = reference("host:5000/a/b:t");
    let digest = Digest::of(b"");
    let mirror = &endpoints("[host.'https://m.example/x/../us//']", "host:5000")[0];
    let url = mirror.manifest(Transport::Https, &tag);
    assert_eq!(url, "https://m.example/us/v2/a/b/manifests/t?ns=host%3A5000");
    let url = mirror.manifest(Transport::Https, &tag.with_digest(digest.clone()));
    assert_eq!(url, format!("https://m.example/us/v2/a/b/manifests/{digest}?ns=host%3A5000"));
    let own = default_endpoint("host:5000");
    let url = own.blob(Transport::Http, &tag, &digest);
    assert_eq!(url, format!("http://host:5000/v2/a/b/blobs/{digest}"));
    let hub = default_endpoint("docker.io");
    let url = hub.manifest(Transport::Https, &reference("busybox"));
    assert_eq!(url, "https://registry-1.docker.io/v2/library/busybox/manifests/latest");
    let bare = &endpoints("[host.'m.example']\noverride_path = true", "a.b")[0];
    let url = bare.manifest(Transport::Https, &reference("a.b/c"));
    assert_eq!(url, "https://m.example/c/manifests/latest?ns=a.b");
    let paths = ["", "/", "/v2", "/v2/", "/a/v2", "/v2/a", "/av2"].map(|path| {
        let text = format!("[host.'https://m.example{path}']");
        endpoints(&text, "a.b")[0].path.clone()
    });
    assert_eq!(paths, ["/v2", "/v2", "/v2", "/v2", "/a/v2", "/v2/a/v2", "/av2/v2"]);
}

#[test]
fn what_can_not_be_used_is_named() {
    for (text, problem) in [
        ("\n\nserver = ", "/hosts.toml, line 3: "),
        ("server = 5", "hosts.toml: server: write a text"),
        ("server = 'ftp://a'", "server: \"ftp://a\" is neither https:// nor http://"),
        ("server = 'https://'", "server: \"https://\" is no URL"),
        ("server = 'a b'", "server: \"a b\" is no URL"),
        ("server = 'https://a:'", "no port after the colon"),
        ("server = 'https://u:p@a'", "can't have a user"),
        ("server = 'https://a/?x=1'", "has a query"),
        ("host = 5", "host: write tables such as [host.\"https://mirror.example\"]"),
        ("[host]\n'a.b' = 5", "host.\"a.b\": write a table"),
        ("[host.'']", "host: a mirror has no URL"),
        ("[host.'x://a']", "host.\"x://a\": \"x://a\" is neither"),
        (
            "[host.a]\ncapabilities = ['pul']",
            "host.\"a\".capabilities: \"pul\" is unknown, did you mean \"pull\"?",
        ),
        ("capabilities = 'pull'", "capabilities: write a list of texts"),
        ("ca = 5", "ca: write a text or a list of texts"),
        ("ca = ['a', 5]", "ca: write a text or a list of texts"),
        ("ca = ''", "ca: a file has no name"),
        ("client = [['a']]", "client: write pairs"),
        ("client = [['a', 'b', 'c']]", "client: write pairs"),
        ("client = [[]]", "client: write pairs"),
        ("skip_verify = 'no'", "skip_verify: write true or false"),
        ("dial_timeout = '0s'", "dial_timeout: write a time above zero"),
        ("dial_timeout = 5", "dial_timeout: write a text"),
        ("[header]\n'a b' = 'c'", "header: \"a b\" is no header's name"),
        ("[header]\na = \"secret\\nHost: x\"", "header: no header can have the value of \"a\""),
        ("[header]\na = 5", "header: write a text or a list"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with("/etc/certs.d/docker.io/hosts.toml"), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
    }
    let many: String = (0..=MAX_HOSTS).map(|n| format!("[host.'h{n}']\n")).collect();
    assert!(parse(&many).unwrap_err().to_string().ends_with("host: at most 64 are possible"));
    let values = format!("[header]\na = [{}]", "'', ".repeat(1 << 16));
    let names: String = (0..1 << 16).map(|n| format!("a{n} = ''\n")).collect();
    for headers in [values, format!("[header]\n{names}")] {
        let error = parse(&headers).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.ends_with("header: at most 64 are possible"), "{error}");
    }
}

#[test]
fn unknown_keys_make_warnings_with_the_key_that_was_meant() {
    let text =
        "sever = 'a'\n[host.'a.b']\ncapabilites = ['pull']\n[host.'a.b'.host.'c.d']\n[plugins]";
    let warnings = parse(text).unwrap().warnings;
    let file = "/etc/certs.d/docker.io/hosts.toml: unknown key";
    assert_eq!(
        warnings[0],
        format!(
            "{file} \"capabilites\" of host \"a.b\" is ignored, did you mean \"capabilities\"?"
        )
    );
    assert!(warnings[1].starts_with(&format!("{file} \"host\" of host \"a.b\" is ignored")));
    assert!(warnings[2].ends_with("\"sever\" is ignored, did you mean \"server\"?"));
    assert_eq!(warnings.len(), 4);
    let many: String = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(parse(&many).unwrap().warnings.len(), 20);
}

#[test]
fn folders_are_looked_for_in_containerds_order() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let hosts = Hosts::new(&format!(":{}:{}:", first.display(), second.display()));
    let first_host = |image: &str| {
        let endpoints = hosts.endpoints(&reference(image), Purpose::Resolve).unwrap();
        endpoints.list[0].host.clone()
    };
    let write = |root: &Path, folder: &str| {
        fs::create_dir_all(root.join(folder)).unwrap();
        let text =
            format!("[host.'{}.mirror']", folder.trim_matches(['_', '[']).replace([':', ']'], "-"));
        fs::write(root.join(folder).join("hosts.toml"), text).unwrap();
    };
    assert_eq!(first_host("h.example:5000/a"), "h.example:5000");
    assert_eq!(Hosts::new("").endpoints(&reference("a"), Purpose::Pull).unwrap().list.len(), 1);
    for (root, folder, found) in [
        (&second, "_default", "default.mirror"),
        (&second, "h.example:5000", "h.example-5000.mirror"),
        (&first, "_default", "default.mirror"),
        (&first, "h.example:5000", "h.example-5000.mirror"),
        (&first, "h.example_5000_", "h.example_5000.mirror"),
    ] {
        write(root, folder);
        assert_eq!(first_host("h.example:5000/a"), found, "{folder}");
    }
    write(&first, "[::1]_5000_");
    assert_eq!(first_host("[::1]:5000/a"), "--1-_5000.mirror");
    write(&first, "[::1]");
    assert_eq!(first_host("[::1]/a"), "--1-.mirror");
}

#[test]
fn certificates_count_where_there_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("h.example");
    fs::create_dir_all(folder.join("folder.crt")).unwrap();
    for name in ["b.crt", "a.crt", "one.cert", "one.key", "two.cert", "other.key", "readme"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    let hosts = Hosts::new(dir.path().to_str().unwrap());
    let find = || hosts.endpoints(&reference("h.example/a"), Purpose::Pull).unwrap().list.remove(0);
    let endpoint = find();
    assert_eq!(endpoint.tls.ca, [folder.join("a.crt"), folder.join("b.crt")]);
    let (one, two) = (folder.join("one.cert"), folder.join("two.cert"));
    let client = [(one, Some(folder.join("one.key"))), (two, None)];
    assert_eq!(
        endpoint.tls.client,
        client.map(|(certificate, key)| ClientCertificate { certificate, key })
    );
    assert_eq!(
        (endpoint.host.as_str(), endpoint.transports),
        ("h.example", vec![Transport::Https])
    );
    // An empty file is none.
    fs::write(folder.join("hosts.toml"), "").unwrap();
    assert_eq!(find().tls.ca.len(), 2);
    fs::write(folder.join("hosts.toml"), "# nothing\n").unwrap();
    assert_eq!(find().tls, Tls::default());
}

#[test]
fn servers_are_only_asked_for_what_they_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a.b");
    fs::create_dir(&folder).unwrap();
    let text = "server = 'own'\ncapabilities = ['push']\n[host.pulls]\ncapabilities = ['pull']\n\
        [host.resolves]\ncapabilities = ['resolve']\n[host.both]\n";
    let hosts = Hosts::new(dir.path().to_str().unwrap());
    let find = |image: &str, purpose| {
        let found = hosts.endpoints(&reference(image), purpose)?;
        Ok::<_, HostsError>(found.list.into_iter().map(|e| e.host).collect::<Vec<_>>())
    };
    fs::write(folder.join("hosts.toml"), text).unwrap();
    assert_eq!(find("a.b/c", Purpose::Resolve).unwrap(), ["both"]);
    assert_eq!(find("a.b/c", Purpose::Pull).unwrap(), ["pulls", "both"]);
    let digested = format!("a.b/c@{}", Digest::of(b""));
    assert_eq!(find(&digested, Purpose::Resolve).unwrap(), ["pulls", "both"]);
    let nobody = "server = 'own'\ncapabilities = ['pull']";
    fs::write(folder.join("hosts.toml"), nobody).unwrap();
    let error = find("a.b/c", Purpose::Resolve).unwrap_err().to_string();
    assert!(error.ends_with("lets no server resolve images of a.b: add it to \"capabilities\""));
    fs::write(folder.join("hosts.toml"), [b'#', 0xff]).unwrap();
    assert!(matches!(find("a.b/c", Purpose::Pull), Err(HostsError::Read { .. })));
    let long = vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap() + 1];
    fs::write(folder.join("hosts.toml"), long).unwrap();
    assert!(matches!(find("a.b/c", Purpose::Pull), Err(HostsError::Read { .. })));
}

#[test]
fn damaged_files_make_errors() {
    let mut noise = Noise::new(3);
    let mut refused = 0;
    for _ in 0..4000 {
        let text = String::from_utf8_lossy(&noise.damaged(CONTAINERDS)).into_owned();
        match parse(&text) {
            Ok(file) => {
                let warnings = file.warnings.iter().all(|text| text.len() < 1000);
                assert!(warnings && file.servers.len() <= 1 + MAX_HOSTS);
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.len() < 1500 && !text.contains(char::is_control), "{text}");
            }
        }
    }
    assert!(refused > 1000);
}
