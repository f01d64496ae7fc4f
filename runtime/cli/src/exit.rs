//! Exit codes that scripts rely on: the process's own, and those of Docker and shells otherwise.

use std::process::ExitCode;

/// The daemon, or what was asked of it, failed.
pub(crate) const FAILED: u8 = 125;
/// The command is there, and can't be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The command is not there.
const NOT_FOUND: u8 = 127;

/// The code for a process that ended with `code`; signals are in it as 128 and their number.
pub(crate) fn of_process(code: i32) -> ExitCode {
    // Only the lowest byte of a process's code ever arrives.
    ExitCode::from(u8::try_from(code.rem_euclid(256)).unwrap_or(u8::MAX))
}

/// The code for a process that did not come to run, for what the daemon says of it (pure).
pub(crate) fn of_failure(text: &str) -> u8 {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match text.contains("exec: \"") {
        true if has(&["executable file not found", "no such file or directory"]) => NOT_FOUND,
        true if has(&["permission denied", "exec format error", "is a directory"]) => {
            NOT_EXECUTABLE
        }
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_the_command_is_told_from_others() {
        let cases = [
            (r#"starting: exec: "x": executable file not found in $PATH"#, 127),
            (r#"exec: "/x": stat /x: no such file or directory"#, 127),
            (r#"exec: "/etc": permission denied"#, 126),
            (r#"exec: "/x": exec format error"#, 126),
            ("mount of /x: no such file or directory", 125),
            ("", 125),
        ];
        for (text, code) in cases {
            assert_eq!(of_failure(text), code, "{text}");
        }
        assert_eq!(of_process(137), ExitCode::from(137));
    }
}
