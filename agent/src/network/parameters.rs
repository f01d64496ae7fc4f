//! Kernel parameters of the network and of its interfaces.

use std::collections::BTreeMap;

const DIRECTORY: &str = "/proc/sys/net";

/// Sets parameters, files below /proc/sys/net with `*` for `interface`. One that the guest's kernel
/// does not have or take must not cost the pod its network.
pub(super) fn set(parameters: &BTreeMap<String, String>, interface: &str) {
    let path = |file: &String| format!("{DIRECTORY}/{}", file.replace('*', interface));
    let is_set = |(file, value): &(&String, &String)| {
        std::fs::read_to_string(path(file)).is_ok_and(|now| now.trim() == *value)
    };
    let mut failed = Vec::new();
    // Twice: some change others, as `ipv4/ip_forward` does `ipv4/conf/all/accept_redirects`.
    for _ in 0..2 {
        let missing = parameters.iter().filter(|parameter| !is_set(parameter));
        failed = missing
            .filter_map(|(file, value)| {
                Some((file, value, std::fs::write(path(file), value).err()?))
            })
            .collect();
    }
    for (file, value, error) in failed {
        log::warn!("set {} to {value}: {error}", path(file));
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Needs root, for a network namespace of this thread's own.
    #[test]
    fn parameters_are_set_that_others_reset() {
        let work = || {
            crate::sys::process::unshare(libc::CLONE_NEWNET).unwrap();
            let usual = std::fs::read_to_string(format!("{DIRECTORY}/ipv4/ip_forward")).unwrap();
            let on = if usual.trim() == "0" { "1" } else { "0" };
            let wanted = [
                ("core/somaxconn", "77"),
                // The kernel sets it to the opposite of the next one.
                ("ipv4/conf/all/accept_redirects", on),
                ("ipv4/ip_forward", on),
                ("ipv4/conf/*/arp_filter", "1"),
                ("ipv4/unknown", "1"),
            ];
            let wanted = wanted.map(|(file, value)| (file.to_owned(), value.to_owned()));
            set(&wanted.clone().into(), "lo");
            for (file, value) in &wanted[..4] {
                let path = format!("{DIRECTORY}/{}", file.replace('*', "lo"));
                assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), value, "{file}");
            }
        };
        std::thread::spawn(work).join().unwrap();
    }
}
