//! All that reads what operators and plugins write, for a fuzzer.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::conf::{Conf, PluginConf, Told};
use crate::invoke::parse;
use crate::result::{NetworkResult, in_version};
use crate::text::said;
use crate::verb::Verb;
use crate::version::Version;
use crate::{Attachment, Capabilities, Error, Pod, chain};

/// Takes `bytes` for each thing that a file or a plugin may say; what people are told of it.
///
/// # Panics
/// When what was understood is not the same once it was written and read again.
pub fn read(bytes: &[u8]) -> Vec<String> {
    let mut texts = vec![said(bytes)];
    let path = Path::new("/etc/cni/net.d/10-a.conflist");
    let list = Conf::parse_list(bytes, path).and_then(|list| list.with(Vec::new()));
    for conf in [list, Conf::parse_single(bytes, path)] {
        match conf {
            Ok(conf) => network(&conf),
            Err(error) => texts.push(error.whole()),
        }
    }
    texts.extend(PluginConf::parse(bytes, path).err().map(|error| error.whole()));
    for verb in [Verb::Add, Verb::Del, Verb::Version] {
        for ended in [Ok(()), Err(&"exit status: 1" as &dyn std::fmt::Display)] {
            match parse("a", verb, ended, bytes, b"") {
                Ok(answer) => texts.extend(result(answer)),
                Err(error) => texts.push(error.whole()),
            }
        }
    }
    texts
}

fn network(conf: &Conf) {
    let again = Conf::parse_list(conf.to_json().as_bytes(), conf.path());
    let again = again.and_then(|list| list.with(Vec::new()));
    assert!(again.is_ok_and(|again| again == *conf), "{conf:?} changes");
    for plugin in conf.plugins() {
        assert!(!plugin.kind.is_empty() && !plugin.kind.contains('/'));
        let input = conf.input(plugin, &Told::default());
        let input: Result<Map<String, Value>, _> = serde_json::from_slice(&input);
        assert!(input.is_ok_and(|map| map.get("name").is_some_and(|name| name == conf.name())));
    }
    let pod = Pod {
        id: "a".to_owned(),
        netns: PathBuf::from("/run/netns/a"),
        interface: "eth0".to_owned(),
        namespace: String::new(),
        name: String::new(),
        uid: String::new(),
        capabilities: Capabilities::default(),
    };
    let attachment = Attachment::new(conf, &pod);
    let stored = attachment.as_ref().ok().and_then(|own| serde_json::to_vec(own).ok());
    let again = stored.and_then(|stored| serde_json::from_slice::<Attachment>(&stored).ok());
    assert_eq!(attachment.ok(), again);
}

fn result(answer: Map<String, Value>) -> Vec<String> {
    let mut texts = Vec::new();
    texts.extend(chain::supported(&answer).err().map(str::to_owned));
    for version in [Version::OLDEST, Version::CHECK, Version::NEWEST] {
        let written = in_version(answer.clone(), version);
        match written.and_then(|answer| Ok((NetworkResult::parse(&answer)?, answer))) {
            Ok((result, answer)) => {
                let again = in_version(answer.clone(), version);
                assert_eq!(again, Ok(answer), "written twice");
                let addresses = result.pod_addresses("eth0");
                assert!(addresses.len() <= result.addresses.len());
                let is_later = |at: usize| addresses.iter().take(at).any(|one| one.is_ipv6());
                let first = addresses.iter().position(std::net::IpAddr::is_ipv4);
                assert!(!first.is_some_and(is_later), "{addresses:?}");
            }
            Err(problem) => texts.push(Error::answer("a", Verb::Add, problem).whole()),
        }
    }
    texts
}
