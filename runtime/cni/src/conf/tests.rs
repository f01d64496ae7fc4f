use std::fs;

use super::*;

const PATH: &str = "/etc/cni/net.d/10-a.conflist";

fn list(text: &str) -> Result<Conf, Error> {
    Conf::parse_list(text.as_bytes(), Path::new(PATH))?.with(Vec::new())
}

fn single(text: &str) -> Result<Conf, Error> {
    Conf::parse_single(text.as_bytes(), Path::new("/etc/cni/net.d/10-a.conf"))
}

fn input(conf: &Conf, index: usize, told: &Told<'_>) -> Value {
    serde_json::from_slice(&conf.input(&conf.plugins[index], told)).unwrap()
}

#[test]
fn list_has_its_plugins_in_order() {
    let conf = list(
        r#"{"cniVersion": "1.0.0", "name": "net", "disableCheck": "TRUE", "disableGC": true,
            "plugins": [{"type": "bridge", "mtu": 1400}, {"type": "portmap"}]}"#,
    )
    .unwrap();
    assert_eq!((conf.name(), conf.version()), ("net", Version::PLAIN_ADDRESSES));
    assert_eq!(conf.plugin_names().collect::<Vec<_>>(), ["bridge", "portmap"]);
    assert!(!conf.has_check() && !conf.has_gc());
    assert_eq!(conf.path(), Path::new(PATH));
}

#[test]
fn single_plugin_is_a_list_of_one() {
    let conf = single(r#"{"cniVersion": "0.3.1", "name": "net", "type": "bridge"}"#).unwrap();
    assert_eq!(conf.plugin_names().collect::<Vec<_>>(), ["bridge"]);
    assert!(conf.has_check() && !conf.has_gc());
    let old = single(r#"{"name": "net", "type": "bridge"}"#).unwrap();
    assert_eq!(old.version(), Version::OLDEST, "none is the oldest");
}

#[test]
fn newest_known_version_of_all_that_are_named_counts() {
    let version = |text: &str| {
        let head = r#""name": "net", "plugins": [{"type": "a"}]"#;
        list(&format!("{{{head}, {text}}}")).map(|conf| conf.version().to_string())
    };
    assert_eq!(version(r#""cniVersions": ["0.4.0", "1.1.0", "0.3.1"]"#).unwrap(), "1.1.0");
    assert_eq!(version(r#""cniVersions": ["1.0.0", "2.0.0"]"#).unwrap(), "1.0.0");
    assert_eq!(version(r#""cniVersions": ["0.4.0"], "cniVersion": "1.0.0""#).unwrap(), "1.0.0");
    assert_eq!(version(r#""cniVersions": ["0.4.0"], "cniVersion": "9.0.0""#).unwrap(), "0.4.0");
    assert_eq!(version(r#""cniVersions": [], "cniVersion": "1.0.0""#).unwrap(), "1.0.0");
    for (text, field) in [
        (r#""cniVersion": "1.2.0""#, "cniVersion: 1.2.0 is not among 0.1.0 to 1.1.0"),
        (r#""cniVersion": "one""#, "cniVersion: one: it is no version"),
        (r#""cniVersion": 1"#, "cniVersion: it is no text"),
        (r#""cniVersions": ["2.0.0", "3.0.0"]"#, "cniVersions: 2.0.0, 3.0.0 is not among"),
        (r#""cniVersions": [1]"#, "cniVersions[0]: it is no text"),
    ] {
        let error = version(text).unwrap_err().to_string();
        assert!(error.starts_with(PATH) && error.contains(field), "{text}: {error}");
    }
}

#[test]
fn errors_name_the_file_and_the_field() {
    let many = format!(
        r#"{{"name": "net", "plugins": [{}]}}"#,
        vec![r#"{"type": "a"}"#; MAX_PLUGINS + 1].join(",")
    );
    for (text, problem) in [
        ("", "the file: no JSON"),
        ("[]", "the file: it holds no JSON object"),
        (r#"{"plugins": [{"type": "a"}]}"#, "name: the network has none"),
        (r#"{"name": "", "plugins": [{"type": "a"}]}"#, "name: the network has none"),
        (r#"{"name": "../a", "plugins": [{"type": "a"}]}"#, "name: ../a is not of letters"),
        (r#"{"name": 1}"#, "name: it is no text"),
        (r#"{"name": "net"}"#, "plugins: there are none"),
        (r#"{"name": "net", "plugins": []}"#, "plugins: the list is empty"),
        (r#"{"name": "net", "plugins": {}}"#, "plugins: it is no list"),
        (r#"{"name": "net", "plugins": [1]}"#, "plugins[0]: it is no object"),
        (r#"{"name": "net", "plugins": [{"type": "a"}, {}]}"#, "plugins[1].type: there is no"),
        (r#"{"name": "net", "plugins": [{"type": "/bin/sh"}]}"#, "plugins[0].type: /bin/sh is no"),
        (r#"{"name": "net", "plugins": [{"type": ".."}]}"#, "plugins[0].type: .. is no"),
        (r#"{"name": "net", "plugins": [{"type": "a\u0000"}]}"#, "plugins[0].type: there are con"),
        (
            r#"{"name": "net", "plugins": [{"type": "a", "capabilities": {"mac": 1}}]}"#,
            "plugins[0].capabilities.mac: it is neither",
        ),
        (
            r#"{"name": "net", "plugins": [{"type": "a", "capabilities": []}]}"#,
            "plugins[0].capabilities: it is no object",
        ),
        (
            r#"{"name": "net", "disableGC": 1, "plugins": [{"type": "a"}]}"#,
            "disableGC: it is neither",
        ),
        (r#"{"name": "net", "loadOnlyInlinedPlugins": true}"#, "plugins: there are none, and"),
        (many.as_str(), "plugins: there are 65, more than 64"),
    ] {
        let error = list(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{PATH}: {problem}")), "{text}: {error}");
    }
    let error = single(r#"{"name": "net"}"#).unwrap_err().to_string();
    assert!(error.contains("10-a.conf: type: there is no plugin's name"), "{error}");
    let error = single(r#"{"name": "net", "plugins": [{"type": "a"}]}"#).unwrap_err().to_string();
    assert!(error.contains("plugins: a list of plugins belongs into a file with"), "{error}");
}

#[test]
fn plugin_is_told_its_own_part_and_what_the_protocol_adds() {
    let conf = list(
        r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "a", "name": "other", "mtu": 1400, "args": {"cni": {}}, "cni.dev/x": 1,
             "runtimeConfig": {"mac": "forged"}, "prevResult": {"forged": true},
             "capabilities": {"mac": true, "ips": false, "aliases": true}},
            {"type": "b"}]}"#,
    )
    .unwrap();
    let plain = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "a", "mtu": 1400, "args": {"cni": {}},
    });
    assert_eq!(input(&conf, 0, &Told::default()), plain);
    let known = json!({"mac": "02:00:00:00:00:01", "ips": ["10.0.0.2/24"]});
    let previous = json!({"cniVersion": "1.0.0", "ips": []});
    let told = Told {
        capabilities: known.as_object(),
        previous: previous.as_object(),
        attachments: Some(json!([])),
    };
    let mut whole = plain;
    whole["runtimeConfig"] = json!({"mac": "02:00:00:00:00:01"});
    whole["prevResult"] = previous.clone();
    whole["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(input(&conf, 0, &told), whole);
    let undeclared = input(&conf, 1, &told);
    assert_eq!(undeclared.get("runtimeConfig"), None, "it wants to know nothing");
}

#[test]
fn network_is_the_same_from_its_own_text() {
    let text = r#"{"cniVersion": "1.1.0", "name": "net", "disableGC": true,
        "plugins": [{"type": "a", "capabilities": {"ips": true}, "x": [1, 2.5, null]}]}"#;
    let conf = list(text).unwrap();
    assert_eq!(list(&conf.to_json()).unwrap(), conf);
}

#[test]
fn files_of_a_directory_come_in_lexical_order_with_those_that_are_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("30-c.json", r#"{"name": "c", "type": "c"}"#);
    write("10-a.conflist", r#"{"name": "a", "plugins": [{"type": "a"}]}"#);
    write("20-b.conf", r#"{"name": "b"}"#);
    write("05-no.txt", "");
    write("50-list.json", r#"{"name": "d", "plugins": [{"type": "a"}]}"#);
    fs::create_dir(directory.path().join("00-folder.conf")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("40-link.conf")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.path().join("60-fifo.conf"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let large = format!(r#"{{"name": "e", "type": "a", "x": "{}"}}"#, "x".repeat(1 << 20));
    write("70-large.conf", &large);
    let found = candidates(directory.path()).unwrap();
    let read = |candidate: &Candidate| {
        let name = candidate.path.file_name().unwrap().to_str().unwrap().to_owned();
        let conf = candidate.conf.as_ref().map(|conf| conf.name().to_owned());
        (name, conf.map_err(|error| error.to_string()).unwrap_or_else(|error| error))
    };
    let found: Vec<_> = found.iter().map(read).collect();
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "10-a.conflist",
        "20-b.conf",
        "30-c.json",
        "40-link.conf",
        "50-list.json",
        "60-fifo.conf",
        "70-large.conf",
    ];
    assert_eq!(names, expected);
    assert_eq!((found[0].1.as_str(), found[2].1.as_str()), ("a", "c"));
    for (index, problem) in [
        (1, "20-b.conf: type"),
        (3, "40-link.conf"),
        (4, "plugins: a list"),
        (5, "no regular file"),
        (6, "more than 1048576 bytes"),
    ] {
        assert!(found[index].1.contains(problem), "{}", found[index].1);
    }
    assert!(candidates(&directory.path().join("none")).unwrap().is_empty());
    for number in 0..1024 {
        write(&format!("80-{number}.conf"), "");
    }
    let error = candidates(directory.path()).unwrap_err().to_string();
    assert!(error.contains("it has more than 1024 files"), "{error}");
}

#[test]
fn plugins_of_a_networks_directory_follow_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("net");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("20.conf"), r#"{"type": "c"}"#).unwrap();
    fs::write(folder.join("10.conf"), r#"{"type": "b"}"#).unwrap();
    fs::write(folder.join("05.conflist"), "no plugin's").unwrap();
    let load = |text: &str| {
        fs::write(directory.path().join("a.conflist"), text).unwrap();
        candidates(directory.path()).unwrap().remove(0).conf
    };
    let names = |conf: &Conf| conf.plugin_names().collect::<Vec<_>>().join(" ");
    let conf = load(r#"{"name": "net", "plugins": [{"type": "a"}]}"#).unwrap();
    assert_eq!(names(&conf), "a b c");
    assert_eq!(names(&list(&conf.to_json()).unwrap()), "a b c", "without the directory");
    let conf = load(r#"{"name": "net"}"#).unwrap();
    assert_eq!(names(&conf), "b c");
    let text = r#"{"name": "net", "loadOnlyInlinedPlugins": true, "plugins": [{"type": "a"}]}"#;
    assert_eq!(names(&load(text).unwrap()), "a");
    fs::write(folder.join("30.conf"), r#"{"type": ""}"#).unwrap();
    let error = load(r#"{"name": "net"}"#).unwrap_err().to_string();
    assert!(error.contains("net/30.conf: type"), "{error}");
    let error = load(r#"{"name": "other"}"#).unwrap_err().to_string();
    assert!(error.contains("a.conflist: plugins: there are none, and none in"), "{error}");
}
