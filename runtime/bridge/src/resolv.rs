//! How the node looks up names, for pods that are told nothing else.

use std::net::IpAddr;
use std::path::Path;

use cni::Dns;

/// The node's file, and the one in which systemd-resolved has the servers behind its own.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Most bytes of a file that are read.
const MOST: usize = 64 << 10;

/// The node's servers and domains, below `root`. Servers on the node's loopback are left out: a pod
/// has another one. If there are no others, those behind systemd-resolved are taken.
pub fn host_dns(root: &Path) -> Dns {
    let read = |file: &str| {
        let path = root.join(file.trim_start_matches('/'));
        let text = std::fs::read(path).unwrap_or_default();
        parse_dns(&String::from_utf8_lossy(text.get(..MOST).unwrap_or(&text)))
    };
    let [own, behind] = FILES.map(read);
    if own.nameservers.is_empty() && !behind.nameservers.is_empty() { behind } else { own }
}

/// What a resolv.conf(5) says, without servers on loopback.
pub fn parse_dns(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (key, values) = (words.next(), words.map(str::to_owned));
        match key {
            Some("nameserver") => {
                dns.nameservers.extend(values.take(1).filter(|text| is_elsewhere(text)))
            }
            // The last of both counts, as for the C library.
            Some("search") => dns.search = values.collect(),
            Some("domain") => dns.search = values.take(1).collect(),
            Some("options") => dns.options.extend(values),
            _ => {}
        }
    }
    dns
}

/// A link-local address has a scope behind it that means nothing in a pod, and is no address here.
fn is_elsewhere(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| !address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_loopback_are_replaced_by_those_behind_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(host_dns(root.path()), Dns::default());
        write("etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\nsearch a b\n");
        assert_eq!(host_dns(root.path()).search, ["a", "b"]);
        let behind = "run/systemd/resolve/resolv.conf";
        write(behind, "nameserver 192.0.2.1 # one\nnameserver fe80::1%eth0\nnameserver ::1\n");
        let dns = host_dns(root.path());
        assert_eq!((dns.nameservers, dns.search.len()), (vec!["192.0.2.1".to_owned()], 0));
        write(
            "etc/resolv.conf",
            "; a\nnameserver 192.0.2.2\nnameserver ::ffff:127.0.0.1\ndomain c d\n",
        );
        let dns = host_dns(root.path());
        assert_eq!(
            (dns.nameservers, dns.search),
            (vec!["192.0.2.2".to_owned()], vec!["c".to_owned()])
        );
    }
}
