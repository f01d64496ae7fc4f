//! The user's terminal while a container has it.

use std::io;

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    isatty(stdio::stdin())
}

/// Columns and rows of the terminal; none if there is none.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdio::stdin()).or_else(|_| tcgetwinsize(stdio::stdout())).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// A terminal that passes on every key. It is as before when this is dropped, and after a panic.
pub(crate) struct Raw {
    before: Termios,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Raw")
    }
}

impl Raw {
    /// Makes the terminal of standard input raw; none if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !is_input() {
            return Ok(None);
        }
        let before = tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        let (kept, usual) = (before.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            restore(&kept);
            usual(info);
        }));
        // Keys that were pressed before are for the container, too.
        tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// A terminal that has gone needs nothing.
fn restore(before: &Termios) {
    let _gone = tcsetattr(stdio::stdin(), OptionalActions::Drain, before);
}
