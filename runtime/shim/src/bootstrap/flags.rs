//! The command line, as Go's `flag` package has it: `-name value`, `-name=value`, one or two
//! dashes. Words may come in any order, because versions of containerd differ in it.

/// What the binary was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start or find the daemon of a container's pod.
    Start,
    /// Clean up after a container, without any daemon.
    Delete,
    /// Serve a pod; only `start` calls this.
    Daemon,
    /// Tell what the runtime can do.
    Info,
    /// Tell the version.
    Version,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    /// What to do.
    pub(crate) action: Action,
    /// `-namespace`.
    pub(crate) namespace: String,
    /// `-id`.
    pub(crate) id: String,
    /// `-address`: containerd's gRPC socket; empty under CRI-O.
    pub(crate) address: String,
    /// `-bundle`: with `delete` only; otherwise it is the working directory.
    pub(crate) bundle: String,
    /// `-socket`: where the daemon's own socket is.
    pub(crate) socket: String,
    /// `-debug`.
    pub(crate) debug: bool,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagsError {
    /// A flag without its value.
    #[error("flag -{0} needs a value")]
    NoValue(String),
    /// A flag or word that is not known.
    #[error("{0:?} is not known; start and delete are the commands")]
    Unknown(String),
    /// Nothing to do.
    #[error("a command is missing: start or delete")]
    NoAction,
    /// A flag that the command needs.
    #[error("flag -{0} is missing")]
    Missing(&'static str),
}

impl Flags {
    /// Parses the words after the program's name.
    ///
    /// # Errors
    /// [`FlagsError`] with the word at fault.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, FlagsError> {
        let mut words = words.into_iter();
        let mut action = None;
        let mut flags = Self {
            action: Action::Version,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: String::new(),
            socket: String::new(),
            debug: false,
        };
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                action = Some(action_named(&word).ok_or(FlagsError::Unknown(word))?);
                continue;
            };
            let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
            match name {
                "debug" => flags.debug = value.is_none_or(truth),
                "v" | "version" if value.is_none_or(truth) => action = Some(Action::Version),
                "info" if value.is_none_or(truth) => action = Some(Action::Info),
                "v" | "version" | "info" => {}
                _ => {
                    let value = match value {
                        Some(value) => value.to_owned(),
                        None => words.next().ok_or_else(|| FlagsError::NoValue(name.to_owned()))?,
                    };
                    flags.set(name, value)?;
                }
            }
        }
        flags.action = action.ok_or(FlagsError::NoAction)?;
        flags.check()
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), FlagsError> {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" => self.bundle = value,
            "socket" => self.socket = value,
            // Events go over the address in the environment, not through containerd's binary.
            "publish-binary" | "debug-socket" => {}
            _ => return Err(FlagsError::Unknown(format!("-{name}"))),
        }
        Ok(())
    }

    fn check(self) -> Result<Self, FlagsError> {
        let of_a_container = matches!(self.action, Action::Start | Action::Delete | Action::Daemon);
        if of_a_container && self.namespace.is_empty() {
            return Err(FlagsError::Missing("namespace"));
        }
        if of_a_container && self.id.is_empty() {
            return Err(FlagsError::Missing("id"));
        }
        Ok(self)
    }
}

fn action_named(word: &str) -> Option<Action> {
    match word {
        "start" => Some(Action::Start),
        "delete" => Some(Action::Delete),
        "daemon" => Some(Action::Daemon),
        _ => None,
    }
}

/// Go's `strconv.ParseBool`, with everything else false.
fn truth(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagsError> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn line_of_every_containerd_is_understood() {
        let start = "-namespace k8s.io -address /run/containerd/containerd.sock \
            -publish-binary /usr/bin/containerd -id abc -debug start";
        let flags = parse(start).unwrap();
        assert_eq!((flags.action, flags.debug), (Action::Start, true));
        assert_eq!((flags.namespace.as_str(), flags.id.as_str()), ("k8s.io", "abc"));
        let delete = "-namespace=default --id=abc -address= -bundle /run/b delete";
        let flags = parse(delete).unwrap();
        assert_eq!((flags.action, flags.bundle.as_str()), (Action::Delete, "/run/b"));
    }

    #[test]
    fn order_does_not_matter() {
        let flags = parse("start -id a -debug=false -namespace n").unwrap();
        assert_eq!((flags.action, flags.debug), (Action::Start, false));
    }

    #[test]
    fn info_and_version_need_nothing_else() {
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("--version").unwrap().action, Action::Version);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("-namespace n start"), Err(FlagsError::Missing("id")));
        assert_eq!(parse("-id a start"), Err(FlagsError::Missing("namespace")));
        assert_eq!(parse("-id"), Err(FlagsError::NoValue("id".into())));
        assert_eq!(parse("-id a -namespace n"), Err(FlagsError::NoAction));
        assert_eq!(parse("-what x start"), Err(FlagsError::Unknown("-what".into())));
        assert_eq!(parse("stop"), Err(FlagsError::Unknown("stop".into())));
    }
}
