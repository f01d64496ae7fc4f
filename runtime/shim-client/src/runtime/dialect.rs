//! What a runtime's binary takes on the standard input of `start`.
//!
//! | shim of | takes |
//! |---|---|
//! | containerd 1.6 | an `Any` with options or nothing; fails on `BootstrapParams` |
//! | containerd 1.7 | the same; ignores what it does not know |
//! | containerd 2.0 to 2.2 | the same, and knows `-info` |
//! | containerd 2.3, 2.4 | `BootstrapParams`; takes the type of options for an id; knows `-info` |
//! | containerd after 2.4.0-beta.0 | `BootstrapParams`; fails on anything else; knows `-info` |
//! | ours | all of it, and answers `BootstrapParams` alone with Task v3; knows `-info` |
//!
//! So nothing can be said to all of them. Whether a shim knows `-info` tells them apart, with
//! containerd 2.0 to 2.2 on the newer side, as containerd 2.3 itself has it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::types::introspection::RuntimeInfo;
use protobuf::Message;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::command;
use crate::error::Error;
use crate::words::Any;

/// How Go's `flag` package says that it does not know `-info`.
const UNKNOWN: &str = "not defined: -info";

/// What a runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its name, as `io.containerd.cuddy.v2`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What a configuration may ask for: JSON, the OCI runtime specification's `Features`.
    pub features: Option<Any>,
    /// More of it, by names that containerd gave.
    pub annotations: BTreeMap<String, String>,
}

impl Info {
    /// Reads what a runtime answered; none if it is no such answer (pure).
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let info =
            RuntimeInfo::parse_from_bytes(answer).ok().filter(|info| !info.name.is_empty())?;
        let features = info.features.into_option();
        Some(Self {
            name: info.name,
            version: info.version.into_option().unwrap_or_default().version,
            features: features.map(|any| Any { type_url: any.type_url, value: any.value }),
            annotations: info.annotations.into_iter().collect(),
        })
    }
}

/// What `start` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `BootstrapParams`. The runtime has told of itself, or failed to.
    Params(Option<Info>),
    /// An `Any` with options, or nothing.
    Legacy,
}

/// Which file a binary is: another one when it was upgraded.
type Stamp = (u64, u64, i64, i64);

/// The dialect of a binary, as long as it is the same file.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<(Stamp, Dialect)>>);

impl Known {
    /// Tells the dialect, for which the binary is executed once.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::DeadlineExceeded`].
    pub(super) async fn ask(&self, binary: &Path, limit: Duration) -> Result<Dialect, Error> {
        let file = tokio::fs::metadata(binary).await;
        let file = file.map_err(|error| {
            Error::Runtime(format!("looking at runtime {}: {error}", binary.display()))
        })?;
        let stamp = (file.dev(), file.ino(), file.ctime(), file.ctime_nsec());
        // Whoever comes at the same time waits for the same answer.
        let mut known = self.0.lock().await;
        if let Some((of, dialect)) = known.as_ref()
            && *of == stamp
        {
            return Ok(dialect.clone());
        }
        let dialect = dialect(binary, limit).await?;
        *known = Some((stamp, dialect.clone()));
        Ok(dialect)
    }
}

async fn dialect(binary: &Path, limit: Duration) -> Result<Dialect, Error> {
    let doing = "asking the runtime what it is";
    let mut command = Command::new(binary);
    command.arg("-info").current_dir("/");
    let finished = command::run(doing, command, Vec::new(), limit).await?;
    if finished.status.success() {
        // One that answers anything else does not know the question.
        return Ok(Info::parse(&finished.output)
            .map_or(Dialect::Legacy, |info| Dialect::Params(Some(info))));
    }
    let complaint = finished.complaint();
    if complaint.contains(UNKNOWN) {
        return Ok(Dialect::Legacy);
    }
    // As where runc is not installed: `start` will say so in better words, or do without.
    log::warn!("{doing}: {}: {}: {complaint}", binary.display(), finished.status);
    Ok(Dialect::Params(None))
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::types::introspection::RuntimeVersion;
    use protobuf::MessageField;

    use super::*;

    #[test]
    fn what_a_runtime_says_of_itself_is_read() {
        let version = RuntimeVersion { version: "2.1".into(), ..RuntimeVersion::default() };
        let info = RuntimeInfo {
            name: "io.containerd.runc.v2".into(),
            version: MessageField::some(version),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            ..RuntimeInfo::default()
        };
        let info = Info::parse(&info.write_to_bytes().unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.as_str()), ("io.containerd.runc.v2", "2.1"));
        assert_eq!((info.annotations["a"].as_str(), info.features), ("b", None));
        assert_eq!(Info::parse(b""), None);
        assert_eq!(Info::parse(b"unix:///run/s/1"), None);
    }
}
