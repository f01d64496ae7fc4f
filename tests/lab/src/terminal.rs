//! The terminal of whoever runs `lab`: raw mode while a command with a terminal runs in L1.

use std::{io, process, thread};

use rustix::termios::{self, OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::frame::WindowSize;

/// Raw mode of standard input; the mode from before is restored on drop.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode. From then on a signal that would end this process
    /// still does, after the mode from before has been restored.
    ///
    /// # Errors
    /// Standard input is not a terminal, or its mode cannot be changed.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        let restored = before.clone();
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &restored);
                process::exit(128 + signal);
            }
        });
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Size of the terminal at standard input, 24 × 80 when it is none.
#[must_use]
pub fn window_size() -> WindowSize {
    termios::tcgetwinsize(io::stdin()).map_or(WindowSize { rows: 24, columns: 80 }, |size| {
        WindowSize { rows: size.ws_row, columns: size.ws_col }
    })
}
