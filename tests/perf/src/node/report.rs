//! What is said of the servers, and what is asked of ours.

use super::Stack;
use crate::table::Table;
use crate::usage::Memory;

/// The server may take so much memory without pods, and with many, in MiB.
const MEMORY: [f64; 2] = [12.0, 16.0];

/// A start may take so many times containerd's with runc.
const START: f64 = 1.0;

/// A row of the memory's table.
type Part = (&'static str, fn(&Memory) -> f64);

/// Whether the memory of this server is measured with many pods: of the peers, the one that kubelets
/// have today.
pub(super) fn is_weighed(handler: &str, who: &str) -> bool {
    handler == "runc" || who == "cuddyd"
}

/// Whether all targets are met.
pub(super) fn met(stacks: &[Stack]) -> bool {
    targets(stacks).iter().all(|(_, value, most)| value <= most)
}

/// What is asked of the first stack, beside the one with runc: what, value, the most that it may be.
fn targets(stacks: &[Stack]) -> Vec<(String, f64, f64)> {
    let runc = stacks.iter().find(|stack| stack.handler == "runc");
    let (Some(ours), Some(theirs)) = (stacks.first(), runc) else { return Vec::new() };
    let beside = format!("{} / {}", ours.who, theirs.who);
    let ratio = |of: fn(&Stack) -> f64| of(ours) / of(theirs);
    let mut found = vec![
        (format!("{beside}, alone, p50"), ratio(|one| one.alone.percentile(50)), START),
        (format!("{beside}, alone, p99"), ratio(|one| one.alone.percentile(99)), START),
        ("cuddyd without pods, MiB".to_owned(), ours.without.all, MEMORY[0]),
    ];
    if ours.pods > 0 {
        let [p50, p99] =
            [ratio(|one| one.together.percentile(50)), ratio(|one| one.together.percentile(99))];
        found.extend([
            (format!("{beside}, at once, p50"), p50, START),
            (format!("{beside}, at once, p99"), p99, START),
            (format!("cuddyd with {} pods, MiB", ours.pods), ours.with.all, MEMORY[1]),
        ]);
    }
    found
}

/// For people.
pub(super) fn table(stacks: &[Stack]) -> String {
    let mut starts =
        Table::new(["start of a pod, s", "alone p50", "p99", "at once p50", "p99", "all", "again"]);
    for stack in stacks {
        let s = |seconds: f64| format!("{seconds:.3}");
        starts.row([
            stack.who.clone(),
            s(stack.alone.percentile(50)),
            s(stack.alone.percentile(99)),
            s(stack.together.percentile(50)),
            s(stack.together.percentile(99)),
            s(stack.all),
            stack.again.to_string(),
        ]);
    }
    let mut verdicts = Table::new(["", "", "target"]);
    for (what, value, most) in targets(stacks) {
        let verdict = if value <= most { "met" } else { "MISSED" };
        verdicts.row([what, format!("{value:.2}"), format!("at most {most}: {verdict}")]);
    }
    let count = |of: fn(&Stack) -> usize| stacks.first().map_or(0, of);
    format!(
        "{} starts alone, {} at once\n{starts}\n{}\n{verdicts}",
        count(|one| one.alone.count()),
        count(|one| one.together.count()),
        memory(stacks)
    )
}

/// What each server takes, and of what it consists.
fn memory(stacks: &[Stack]) -> Table {
    let parts: [Part; 7] = [
        ("PSS", |memory| memory.all),
        ("program", |memory| memory.program),
        ("of it written", |memory| memory.written),
        ("files", |memory| memory.files),
        ("heap", |memory| memory.heap),
        ("anonymous", |memory| memory.anonymous),
        ("stack", |memory| memory.stack),
    ];
    let mut heading = vec!["the server's memory, MiB".to_owned()];
    heading.extend(parts.iter().map(|(name, _)| (*name).to_owned()));
    let mut table = Table::default();
    table.add(heading);
    for stack in stacks {
        let times =
            [("without pods", &stack.without), ("with", &stack.with), ("after", &stack.after)];
        for (when, memory) in times {
            let when =
                if when == "with" { format!("with {} pods", stack.pods) } else { when.into() };
            let mut row = vec![format!("{}, {when}", stack.who)];
            row.extend(parts.iter().map(|(_, part)| format!("{:.1}", part(memory))));
            table.add(row);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(who: &str, handler: &'static str, seconds: f64, memory: f64) -> Stack {
        let memory = Memory { all: memory, ..Memory::default() };
        Stack {
            who: who.to_owned(),
            handler,
            alone: vec![seconds].into(),
            together: vec![seconds * 4.0].into(),
            all: seconds * 5.0,
            again: 0,
            without: memory.clone(),
            pods: 50,
            with: memory.clone(),
            after: memory,
        }
    }

    #[test]
    fn ours_is_compared_with_runc_and_a_slower_start_is_missed() {
        let stacks = [
            stack("cuddyd", "cuddy", 0.5, 13.0),
            stack("containerd 1.7, runc", "runc", 0.4, 40.0),
            stack("containerd 1.7, cuddy", "cuddy", 0.9, 40.0),
        ];
        let table = table(&stacks);
        let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(line("cuddyd / containerd 1.7, runc, alone, p50").contains("1.25"), "{table}");
        assert!(line("cuddyd without pods, MiB").ends_with("MISSED"), "{table}");
        assert!(line("cuddyd with 50 pods, MiB").ends_with("met"), "{table}");
        assert!(!met(&stacks));
    }
}
