//! Why nobody can say who a process is.

use std::io;

/// Most bytes of either file that are read.
pub const MAX_BYTES: u64 = 8 << 20;

/// Highest id that runc takes, and so everybody who wants the same configurations to run.
pub const MAX_ID: u32 = 0x7fff_ffff;

/// Most groups of a process beside its own: the kernel's `NGROUPS_MAX`.
pub const MAX_GROUPS: usize = 65_536;

/// Why nobody can say who a process is. The user is not in the text: whoever asks adds it.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The text has more than one colon, or a NUL.
    #[error("not of the form user or user:group")]
    Form,
    /// A number can be no id.
    #[error("an id is out of range, 0 to {MAX_ID}")]
    Range,
    /// No line has the user's name.
    #[error("not in /etc/passwd of the image")]
    NoUser,
    /// No line has the group's name.
    #[error("the group is not in /etc/group of the image")]
    NoGroup,
    /// The user is in more groups than a process can have.
    #[error("more than {MAX_GROUPS} groups")]
    Groups,
    /// A file is longer than anybody's.
    #[error("{0} of the image is over {MAX_BYTES} bytes")]
    TooLong(&'static str),
    /// A file is a directory, a pipe, a device or a socket.
    #[error("{0} of the image is no regular file")]
    Irregular(&'static str),
    /// A file can't be read.
    #[error("reading {path} of the image: {source}")]
    Read {
        /// Which of the two.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
