//! Kernel parameters of single interfaces and of the namespace as a whole, which CNI plugins set
//! (`tuning` above all).

use std::collections::BTreeMap;
use std::path::Path;

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
const DIRECTORY: &str = "/proc/sys/net";

/// What has the kernel make IPv6 addresses: they are taken over instead.
const OF_ADDRESSES: [&str; 2] = ["addr_gen_mode", "stable_secret"];

/// Parameters of a namespace as a whole that its guest takes over: what workloads see or depend on.
/// Not here are sizes of the host's own tables, states and secrets.
const OF_NAMESPACE: [&str; 67] = [
    "core/somaxconn",
    "ipv4/conf/all/accept_local",
    "ipv4/conf/all/accept_redirects",
    "ipv4/conf/all/accept_source_route",
    "ipv4/conf/all/arp_announce",
    "ipv4/conf/all/arp_filter",
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/log_martians",
    "ipv4/conf/all/route_localnet",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/secure_redirects",
    "ipv4/conf/all/send_redirects",
    "ipv4/conf/all/src_valid_mark",
    "ipv4/fib_multipath_hash_policy",
    "ipv4/fwmark_reflect",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_echo_ignore_broadcasts",
    "ipv4/icmp_ratelimit",
    "ipv4/igmp_max_memberships",
    "ipv4/ip_default_ttl",
    "ipv4/ip_forward",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/ip_no_pmtu_disc",
    "ipv4/ip_nonlocal_bind",
    "ipv4/ip_unprivileged_port_start",
    "ipv4/ping_group_range",
    "ipv4/tcp_base_mss",
    "ipv4/tcp_congestion_control",
    "ipv4/tcp_ecn",
    "ipv4/tcp_fastopen",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_fwmark_accept",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_min_snd_mss",
    "ipv4/tcp_moderate_rcvbuf",
    "ipv4/tcp_mtu_probing",
    "ipv4/tcp_no_metrics_save",
    "ipv4/tcp_notsent_lowat",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_retries1",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rfc1337",
    "ipv4/tcp_rmem",
    "ipv4/tcp_sack",
    "ipv4/tcp_slow_start_after_idle",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_timestamps",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_window_scaling",
    "ipv4/tcp_wmem",
    "ipv4/udp_rmem_min",
    "ipv4/udp_wmem_min",
    "ipv6/bindv6only",
    "ipv6/conf/all/disable_ipv6",
    "ipv6/conf/all/forwarding",
    "ipv6/fib_multipath_hash_policy",
    "ipv6/fwmark_reflect",
    "ipv6/ip_nonlocal_bind",
    "netfilter/nf_conntrack_tcp_be_liberal",
    "netfilter/nf_conntrack_tcp_timeout_established",
    "unix/max_dgram_qlen",
];

/// The parameters of this thread's network namespace as a whole: file below /proc/sys/net, to value.
pub(crate) fn of_namespace() -> BTreeMap<String, String> {
    let read = |file: &str| {
        let value = std::fs::read_to_string(Path::new(DIRECTORY).join(file)).ok()?;
        Some((file.to_owned(), value.trim().to_owned()))
    };
    OF_NAMESPACE.into_iter().filter_map(read).collect()
}

/// For each interface (name, MTU) of this thread's network namespace, the parameters that differ
/// from what a new interface gets. The limit of IPv6 packets follows the interface's by itself.
pub(crate) fn read(interfaces: &[(String, u32)]) -> Vec<BTreeMap<String, String>> {
    let mut all = vec![BTreeMap::new(); interfaces.len()];
    for family in FAMILIES {
        let conf = Path::new(DIRECTORY).join(family).join("conf");
        let usual = files(&conf.join("default"));
        for ((name, mtu), found) in interfaces.iter().zip(&mut all) {
            let own = files(&conf.join(name)).into_iter();
            let chosen = own.filter(|(file, value)| {
                let follows = file == "mtu" && *value == mtu.to_string();
                usual.get(file) != Some(value) && !follows && !OF_ADDRESSES.contains(&file.as_str())
            });
            found.extend(chosen.map(|(file, value)| (format!("{family}/conf/*/{file}"), value)));
        }
    }
    all
}

/// All that can be read: a family that the kernel does not have has no files.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let value = std::fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, value.trim().to_owned()))
    });
    read.collect()
}
