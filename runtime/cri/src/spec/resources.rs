//! Limits: CRI's `LinuxContainerResources` to OCI's and back. A 0 and an empty text say nothing.
//!
//! The kubelet counts a pod's overhead in the pod's own cgroup, so no container's limits have it.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};
use protocol::cri::{HugepageLimit, LinuxContainerResources};

use super::SpecError;
use super::error::shown;
use super::input::Node;

/// Sets what `asked` says over what is there, as when a container is made or updated. Returns a
/// line for each limit that the node can't hold.
///
/// # Errors
/// [`SpecError::Resource`] for a number or a text that can't be meant. Then `resources` is as it was.
pub fn apply(
    resources: &mut LinuxResources,
    asked: &LinuxContainerResources,
    node: &Node,
) -> Result<Vec<String>, SpecError> {
    check_texts(asked)?;
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    set_cpu(&mut cpu, asked)?;
    let mut memory = resources.memory().unwrap_or_default();
    set_memory(&mut memory, asked, node.swap)?;
    let mut notes = Vec::new();
    if !node.swap && asked.memory_swap_limit_in_bytes != 0 {
        notes.push("memory_swap_limit_in_bytes is not applied: swap can't be limited".to_owned());
    }
    if !asked.hugepage_limits.is_empty() && !node.hugetlb {
        notes.push("hugepage_limits are not applied: there is no such controller".to_owned());
    } else if !asked.hugepage_limits.is_empty() {
        let mut limits = resources.hugepage_limits().clone().unwrap_or_default();
        limits.retain(|old| {
            asked.hugepage_limits.iter().all(|new| new.page_size != *old.page_size())
        });
        limits.extend(asked.hugepage_limits.iter().map(hugepage));
        resources.set_hugepage_limits(Some(limits));
    }
    if !asked.unified.is_empty() {
        let mut unified = resources.unified().clone().unwrap_or_default();
        unified.extend(asked.unified.clone());
        resources.set_unified(Some(unified));
    }
    resources.set_cpu(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()));
    resources.set_memory(Some(memory).filter(|memory| *memory != LinuxMemory::default()));
    Ok(notes)
}

fn set_cpu(cpu: &mut LinuxCpu, asked: &LinuxContainerResources) -> Result<(), SpecError> {
    if let Some(period) = positive("cpu_period", asked.cpu_period)? {
        cpu.set_period(Some(period));
    }
    if let Some(shares) = positive("cpu_shares", asked.cpu_shares)? {
        cpu.set_shares(Some(shares));
    }
    if asked.cpu_quota != 0 {
        cpu.set_quota(Some(asked.cpu_quota.max(-1)));
    }
    if !asked.cpuset_cpus.is_empty() {
        cpu.set_cpus(Some(asked.cpuset_cpus.clone()));
    }
    if !asked.cpuset_mems.is_empty() {
        cpu.set_mems(Some(asked.cpuset_mems.clone()));
    }
    Ok(())
}

/// A limit of memory alone is one of memory and swap together: nothing is swapped.
fn set_memory(
    memory: &mut LinuxMemory,
    asked: &LinuxContainerResources,
    swap: bool,
) -> Result<(), SpecError> {
    let (limit, both) = (asked.memory_limit_in_bytes, asked.memory_swap_limit_in_bytes);
    if limit > 0 && both > 0 && both < limit {
        let reason =
            format!("{both} is less than memory_limit_in_bytes, {limit}, which it has in it");
        return Err(SpecError::Resource { name: "memory_swap_limit_in_bytes".to_owned(), reason });
    }
    if limit != 0 {
        memory.set_limit(Some(limit.max(-1)));
    }
    let both = if both == 0 { limit } else { both };
    if both != 0 && swap {
        memory.set_swap(Some(both.max(-1)));
    }
    Ok(())
}

fn positive(name: &str, value: i64) -> Result<Option<u64>, SpecError> {
    let wrong =
        |_| SpecError::Resource { name: name.to_owned(), reason: format!("{value} is negative") };
    Ok(Some(u64::try_from(value).map_err(wrong)?).filter(|value| *value > 0))
}

fn hugepage(asked: &HugepageLimit) -> LinuxHugepageLimit {
    let mut limit = LinuxHugepageLimit::default();
    limit.set_page_size(asked.page_size.clone());
    limit.set_limit(i64::try_from(asked.limit).unwrap_or(i64::MAX));
    limit
}

/// The score that the kernel's OOM killer adds, -1000 to 1000.
///
/// # Errors
/// It is beyond that.
pub(super) fn oom_score_adj(asked: &LinuxContainerResources) -> Result<i32, SpecError> {
    let score = i32::try_from(asked.oom_score_adj).ok();
    score.filter(|score| (-1000..=1000).contains(score)).ok_or_else(|| SpecError::Resource {
        name: "oom_score_adj".to_owned(),
        reason: format!("{} is not -1000 to 1000", asked.oom_score_adj),
    })
}

/// What a container has now, in CRI's words: `ContainerStatus.resources`.
pub fn status(resources: &LinuxResources, oom_score_adj: Option<i32>) -> LinuxContainerResources {
    let cpu = resources.cpu().clone().unwrap_or_default();
    let memory = resources.memory().unwrap_or_default();
    let number = |value: Option<u64>| i64::try_from(value.unwrap_or_default()).unwrap_or(i64::MAX);
    let limits = resources.hugepage_limits().iter().flatten().map(|limit| HugepageLimit {
        page_size: limit.page_size().clone(),
        limit: u64::try_from(limit.limit()).unwrap_or(u64::MAX),
    });
    LinuxContainerResources {
        cpu_period: number(cpu.period()),
        cpu_quota: cpu.quota().unwrap_or_default(),
        cpu_shares: number(cpu.shares()),
        memory_limit_in_bytes: memory.limit().unwrap_or_default(),
        oom_score_adj: oom_score_adj.unwrap_or_default().into(),
        cpuset_cpus: cpu.cpus().clone().unwrap_or_default(),
        cpuset_mems: cpu.mems().clone().unwrap_or_default(),
        hugepage_limits: limits.collect(),
        unified: resources.unified().clone().unwrap_or_default(),
        memory_swap_limit_in_bytes: memory.swap().unwrap_or_default(),
    }
}

/// Refuses texts that would be more than one line of a cgroup's file, or a file elsewhere.
///
/// # Errors
/// Names the text.
fn check_texts(asked: &LinuxContainerResources) -> Result<(), SpecError> {
    let wrong = |name: &str, reason: &str| SpecError::Resource {
        name: format!("\"{}\"", shown(name)),
        reason: reason.to_owned(),
    };
    let file = |key: &str| !key.is_empty() && key.contains('.') && !key.contains(['/', '\0']);
    for (key, value) in &asked.unified {
        if !file(key) {
            return Err(wrong(key, "no file of a cgroup has such a name"));
        }
        if value.contains('\0') {
            return Err(wrong(key, "its value has a NUL"));
        }
    }
    for limit in &asked.hugepage_limits {
        if limit.page_size.is_empty()
            || !limit.page_size.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(wrong(&limit.page_size, "no size of huge pages"));
        }
    }
    for cpuset in [&asked.cpuset_cpus, &asked.cpuset_mems] {
        if !cpuset.bytes().all(|byte| byte.is_ascii_digit() || b"-, ".contains(&byte)) {
            return Err(wrong(cpuset, "no list of CPUs or memory nodes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
