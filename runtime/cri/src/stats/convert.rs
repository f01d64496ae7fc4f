//! containerd's metrics of a cgroup → the interface's (pure).

use containerd_shim_protos::cgroups_v2::metrics::{Metrics, PSIData, PSIStats};
use protobuf::{Message, MessageField};
use protocol::cri::{
    CpuUsage, IoUsage, MemoryUsage, NetworkInterfaceUsage, ProcessUsage, PsiData, PsiStats,
    SwapUsage, UInt64Value,
};
use shim_client::Any;

/// What a cgroup uses.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu: Option<CpuUsage>,
    pub(super) memory: Option<MemoryUsage>,
    pub(super) swap: Option<SwapUsage>,
    pub(super) io: Option<IoUsage>,
    pub(super) process: Option<ProcessUsage>,
}

/// Reads what a shim said; none if it is of version 1 of cgroups, or makes no sense.
pub(crate) fn metrics(any: &Any) -> Option<Metrics> {
    let name = any.type_url.rsplit('/').next()?;
    (name == "io.containerd.cgroups.v2.Metrics").then_some(())?;
    Metrics::parse_from_bytes(&any.value).ok()
}

fn number(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// Puts it into the interface's words.
pub(super) fn usage(metrics: &Metrics, at: i64) -> Usage {
    let (cpu, memory) = (&metrics.cpu, &metrics.memory);
    let working_set = memory.usage.saturating_sub(memory.inactive_file);
    let limited = memory.usage_limit != 0 && memory.usage_limit < u64::MAX;
    let available = memory.usage_limit.saturating_sub(working_set);
    let swap_limited = memory.swap_limit < u64::MAX;
    let swap_available = memory.swap_limit.saturating_sub(memory.swap_usage);
    Usage {
        cpu: Some(CpuUsage {
            timestamp: at,
            usage_core_nano_seconds: number(cpu.usage_usec.saturating_mul(1000)),
            usage_nano_cores: None,
            psi: psi(&cpu.psi),
        }),
        memory: Some(MemoryUsage {
            timestamp: at,
            working_set_bytes: number(working_set),
            available_bytes: limited.then_some(available).and_then(number),
            usage_bytes: number(memory.usage),
            rss_bytes: number(memory.anon),
            page_faults: number(memory.pgfault),
            major_page_faults: number(memory.pgmajfault),
            psi: psi(&memory.psi),
        }),
        swap: Some(SwapUsage {
            timestamp: at,
            swap_available_bytes: swap_limited.then_some(swap_available).and_then(number),
            swap_usage_bytes: number(memory.swap_usage),
        }),
        io: Some(IoUsage { timestamp: at, psi: psi(&metrics.io.psi) }),
        process: Some(ProcessUsage { timestamp: at, process_count: number(metrics.pids.current) }),
    }
}

fn psi(stats: &MessageField<PSIStats>) -> Option<PsiStats> {
    let stats = stats.as_ref()?;
    let data = |data: &MessageField<PSIData>| {
        data.as_ref().map(|data| PsiData {
            total: data.total.saturating_mul(1000),
            avg10: data.avg10,
            avg60: data.avg60,
            avg300: data.avg300,
        })
    };
    Some(PsiStats { full: data(&stats.full), some: data(&stats.some) })
}

/// An interface's traffic in the interface's words.
pub(super) fn interface(counters: &network::Counters) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: counters.name.clone(),
        rx_bytes: number(counters.received_bytes),
        rx_errors: number(counters.received_errors),
        tx_bytes: number(counters.sent_bytes),
        tx_errors: number(counters.sent_errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_set_is_without_what_can_be_dropped_and_no_limit_is_none() {
        let mut metrics = Metrics::new();
        let memory = metrics.memory.mut_or_insert_default();
        (memory.usage, memory.inactive_file, memory.usage_limit) = (100, 30, 200);
        metrics.cpu.mut_or_insert_default().usage_usec = 7;
        let bytes = metrics.write_to_bytes().unwrap();
        let any = |kind: &str| Any { type_url: kind.to_owned(), value: bytes.clone() };
        let read = super::metrics(&any("io.containerd.cgroups.v2.Metrics")).unwrap();
        let told = usage(&read, 5);
        let memory = told.memory.unwrap();
        assert_eq!(memory.working_set_bytes, number(70));
        assert_eq!(memory.available_bytes, number(130));
        assert_eq!(told.cpu.unwrap().usage_core_nano_seconds, number(7000));
        assert!(super::metrics(&any("io.containerd.cgroups.v1.Metrics")).is_none());
        metrics.memory.mut_or_insert_default().usage_limit = u64::MAX;
        assert_eq!(usage(&metrics, 5).memory.unwrap().available_bytes, None);
    }
}
