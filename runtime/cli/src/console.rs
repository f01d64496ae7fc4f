//! This terminal as the other end of a process's streams.

use tokio::io::{stderr, stdout};
use tokio::signal::unix::{SignalKind, signal};

use crate::session::{End, Ends, Input, Session};
use crate::terminal::Raw;

/// Carries a session's streams to and from standard input, output and error. A terminal passes on
/// every key meanwhile, and is as before when this returns.
///
/// # Errors
/// The connection broke, or a signal ended this.
pub(crate) async fn carry(session: Session, stdin: bool, tty: bool) -> anyhow::Result<End> {
    let raw = if tty && stdin { Raw::enter()? } else { None };
    let input = stdin.then(|| Input::of(std::io::stdin()));
    let ends = Ends { input, output: stdout(), errors: stderr(), tty };
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let end = tokio::select! {
        end = session.carry(ends) => end,
        _ = hangup.recv() => Err(anyhow::anyhow!("the terminal has gone")),
        _ = terminate.recv(), if raw.is_some() => Err(anyhow::anyhow!("ended by a signal")),
    };
    drop(raw);
    end
}
