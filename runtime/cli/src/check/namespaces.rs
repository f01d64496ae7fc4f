//! Namespaces that the VMM's jail is made of.

use super::Check;

const TOPIC: &str = "namespaces";

/// Kinds by their file in `/proc/self/ns` and the limit on their number.
const KINDS: [(&str, &str); 2] =
    [("user", "/proc/sys/user/max_user_namespaces"), ("mnt", "/proc/sys/user/max_mnt_namespaces")];

/// What was read of a kind: `None` when the kernel lacks it, else how many may exist.
type Limit = Option<u64>;

pub(super) fn check() -> Check {
    evaluate(KINDS.map(|(kind, limit)| {
        let known = std::path::Path::new("/proc/self/ns").join(kind).exists();
        let limit = std::fs::read_to_string(limit).ok().and_then(|text| text.trim().parse().ok());
        known.then(|| limit.unwrap_or(u64::MAX))
    }))
}

fn evaluate(limits: [Limit; 2]) -> Check {
    for ((kind, file), limit) in KINDS.into_iter().zip(limits) {
        match limit {
            None => {
                return Check::failed(
                    TOPIC,
                    format!("the kernel has no {kind} namespaces"),
                    "Use a kernel with CONFIG_NAMESPACES and CONFIG_USER_NS.",
                );
            }
            Some(0) => {
                return Check::failed(
                    TOPIC,
                    format!("no {kind} namespace may be made ({file} is 0)"),
                    format!("Allow some: `echo 10000 > {file}`, and in /etc/sysctl.d."),
                );
            }
            Some(_) => {}
        }
    }
    Check::ok(TOPIC, "user and mount namespaces may be made")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn both_kinds_are_needed() {
        assert_eq!(evaluate([Some(1), Some(1)]).status, Status::Ok);
        assert!(evaluate([Some(0), Some(1)]).found.contains("max_user_namespaces"));
        assert!(evaluate([Some(9), None]).found.contains("no mnt namespaces"));
    }
}
