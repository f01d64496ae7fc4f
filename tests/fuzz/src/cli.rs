//! What the command line reads of others: a container's log, and how a process ended as the daemon
//! says it.
//!
//! Checked besides panics:
//! - A record's parts are those of its line, in order.
//! - Lines are the same in whatever pieces they come, and nothing is lost of them.
//! - The last lines of output are at the end, and as many as were asked for.
//! - No allocation is larger than a few inputs.

#[path = "../../../runtime/cli/src/log_record.rs"]
mod log_record;
#[path = "../../../runtime/cli/src/session/outcome.rs"]
mod outcome;

use log_record::{lines, parse, tail};
use outcome::Outcome;

use crate::limits;

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

/// Runs one input.
pub fn run(input: &[u8]) {
    limits::within(LARGEST, || {
        log(input);
        match Outcome::read(input) {
            Outcome::Failed(text) => assert!(text.len() <= 3 * input.len(), "more than was said"),
            Outcome::Exited(code) => assert!(input.len() > 2, "{code} out of nothing"),
        }
    });
}

fn log(input: &[u8]) {
    let mut whole = input.to_vec();
    let all = lines(&mut whole);
    let half = input.len() / 2;
    let mut kept = input[..half].to_vec();
    let mut parts = lines(&mut kept);
    kept.extend(&input[half..]);
    parts.extend(lines(&mut kept));
    assert_eq!((&all, &whole), (&parts, &kept));
    let mut again: Vec<u8> = all.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    again.extend(&whole);
    assert_eq!(again, input);
    for line in &all {
        let Some(record) = parse(line) else { continue };
        assert!(line.starts_with(record.time) && line.ends_with(record.text));
        assert!(record.time.len() + record.text.len() < line.len());
        assert_ne!(record.is_error, line[record.time.len()..].starts_with(b" stdout "));
    }
    let ends = |line: &Vec<u8>| parse(line).is_some_and(|record| record.is_end);
    for count in [0, 1, 2, usize::MAX] {
        let last = tail(&all, count);
        assert!(all.ends_with(last));
        assert!(last.iter().filter(|line| ends(line)).count() <= count);
    }
}
