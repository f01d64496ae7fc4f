//! Kernel parameters of single interfaces, which CNI plugins set (`tuning` above all).

use std::collections::BTreeMap;
use std::path::Path;

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
const DIRECTORY: &str = "/proc/sys/net";

/// What has the kernel make IPv6 addresses: they are taken over instead.
const OF_ADDRESSES: [&str; 2] = ["addr_gen_mode", "stable_secret"];

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
