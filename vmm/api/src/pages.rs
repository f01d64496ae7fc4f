//! Pages of a machine's memory, as a list of runs in a file.
//!
//! ```text
//! first page, u32 ‖ number of pages, u32      little-endian, again and again
//! ```

/// Size of a page in bytes.
pub const PAGE: u64 = 4096;

/// Most runs of a list.
pub const MAX_RUNS: usize = 8192;

/// Bytes of a run.
const RUN: usize = 8;

/// Most bytes of a list.
pub const MAX_BYTES: usize = MAX_RUNS * RUN;

/// Pages that follow each other, by their place in the machine's memory file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first one.
    pub first: u32,
    /// How many they are.
    pub count: u32,
}

/// The runs that these pages make, which come in order. A list has at most [`MAX_RUNS`]; what comes
/// after them is left out.
pub fn runs(pages: impl IntoIterator<Item = u32>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in pages {
        let full = runs.len() == MAX_RUNS;
        match runs.last_mut() {
            Some(last) if last.first + last.count == page => last.count += 1,
            _ if full => break,
            _ => runs.push(Run { first: page, count: 1 }),
        }
    }
    runs
}

/// The bytes of a file with these runs.
pub fn encode(runs: &[Run]) -> Vec<u8> {
    let words = runs.iter().flat_map(|run| [run.first, run.count]);
    words.flat_map(u32::to_le_bytes).collect()
}

/// The runs in the bytes of a file. Bytes at the end that make no run are left out.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = Run> {
    bytes.chunks_exact(RUN).filter_map(|run| {
        let (first, count) = run.split_first_chunk()?;
        let count = u32::from_le_bytes(*count.first_chunk()?);
        Some(Run { first: u32::from_le_bytes(*first), count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_follow_each_other_are_one_run_and_come_back() {
        let runs = runs([0, 1, 2, 7, 9, 10, u32::MAX]);
        let expected = [(0, 3), (7, 1), (9, 2), (u32::MAX, 1)];
        let expected = expected.map(|(first, count)| Run { first, count });
        assert_eq!(runs, expected);
        let mut bytes = encode(&runs);
        assert_eq!(decode(&bytes).collect::<Vec<_>>(), runs);
        bytes.pop();
        assert_eq!(decode(&bytes).collect::<Vec<_>>(), runs[..3]);
        assert_eq!(decode(b"").count(), 0);
    }

    #[test]
    fn a_list_has_an_end() {
        assert_eq!(runs((0..20_000).map(|page| page * 2)).len(), MAX_RUNS);
        assert_eq!(encode(&runs((0..20_000).map(|page| page * 2))).len(), MAX_BYTES);
    }
}
