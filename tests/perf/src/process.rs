//! Child processes that do not outlive what they were started for.

use std::io;
use std::process::{Child, ExitStatus};

/// A child process; it is killed and waited for with this value, however a measurement ends.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing happens to one that was waited for.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("ending process {}: {error}", self.0.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_process_that_nobody_waited_for() {
        let process = Process(std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let place = format!("/proc/{}", process.0.id());
        drop(process);
        assert!(!std::path::Path::new(&place).exists());
    }
}
