//! What a container uses, as the guest's cgroup files tell it (pure). What does not parse counts
//! as zero, never as an error.

use std::collections::HashMap;

/// Contents of a container's cgroup files by name.
pub type Files = HashMap<String, String>;

/// Most lines of one file that are looked at: a guest can't make the host parse for ever.
pub const MAX_LINES: usize = 512;

/// How many processes of the container the guest kernel has killed for want of memory.
pub fn oom_kills(files: &Files) -> u64 {
    keyed(files, "memory.events").get("oom_kill").copied().unwrap_or(0)
}

/// A file's contents; empty for none.
pub fn text<'a>(files: &'a Files, name: &str) -> &'a str {
    files.get(name).map_or("", String::as_str)
}

/// A file of `key value` lines. Lines that do not parse are left out.
pub fn keyed<'a>(files: &'a Files, name: &str) -> HashMap<&'a str, u64> {
    let lines = text(files, name).lines().take(MAX_LINES);
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.trim().parse().ok()?)))
        .collect()
}

/// A file of one number, or `max` for the largest. What does not parse counts as zero.
pub fn single(files: &Files, name: &str) -> u64 {
    match text(files, name).trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_and_nonsense_is_none() {
        let files = |text: &str| Files::from([("memory.events".to_owned(), text.to_owned())]);
        assert_eq!(oom_kills(&files("max 5\noom 2\noom_kill 1\n")), 1);
        assert_eq!(oom_kills(&files("oom_kill many\n\0\n")), 0);
        assert_eq!(oom_kills(&Files::new()), 0);
    }
}
