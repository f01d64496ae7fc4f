//! `process.rlimits`.

use rustix::process::{Resource, setrlimit};

use crate::control::Failure;
use crate::oci::process::Rlimit;

/// Sets every listed limit; the others stay those of the agent.
pub(super) fn apply(limits: &[Rlimit]) -> Result<(), Failure> {
    for (position, limit) in limits.iter().enumerate() {
        if limits[..position].iter().any(|earlier| earlier.kind == limit.kind) {
            return Err(Failure::configuration(format_args!(
                "rlimits: {} is there twice",
                limit.kind
            )));
        }
        let resource = resource(&limit.kind).ok_or_else(|| {
            Failure::configuration(format_args!("rlimits: unknown type {:?}", limit.kind))
        })?;
        let bound = |value| (value != u64::MAX).then_some(value);
        let limits =
            rustix::process::Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
        setrlimit(resource, limits).map_err(|error| {
            Failure::configuration(format_args!(
                "set {} to {}:{}: {error}",
                limit.kind, limit.soft, limit.hard
            ))
        })?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}
