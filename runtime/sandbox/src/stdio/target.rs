//! The forms in which an output is named (pure). containerd's are a bare path or `fifo://`,
//! `file://`, `binary://` and `binary-v2://`. The last two name a logger. It signals readiness by
//! closing a pipe (`binary://`) or by a byte (`binary-v2://`). `cri-log://PATH?max=BYTES`
//! and `discard://` are our own.

use std::path::PathBuf;

use api::Error;

use syscalls::escapes::undo;

use logs::records::LONGEST;

/// Sizes that a record's text may have: what kubelet has room for, and no more than a stream may
/// keep of a line without an end.
const RECORD: std::ops::RangeInclusive<usize> = 256..=1 << 20;

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    None,
    /// To the clients that are attached, if there are any.
    Discard,
    /// Into a fifo that exists.
    Fifo(PathBuf),
    /// At the end of a file, made if missing with its directories.
    File(PathBuf),
    /// At the end of a log in CRI's format, made if missing with its directory.
    Log {
        /// The file.
        path: PathBuf,
        /// Longest text of a record in bytes.
        longest: usize,
    },
    /// To a program of its own.
    Logger {
        /// The program.
        binary: PathBuf,
        /// Its arguments: keys and values of the query, in order.
        arguments: Vec<String>,
        /// Whether it signals readiness by a byte rather than by closing the pipe.
        wait_byte: bool,
    },
}

impl Output {
    /// Reads one form.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of a scheme that is not known.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(if text.is_empty() { Self::None } else { Self::Fifo(text.into()) });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "fifo" => Ok(Self::Fifo(decode(path).into())),
            "file" => Ok(Self::File(decode(path).into())),
            "discard" => Ok(Self::Discard),
            "cri-log" => Ok(Self::Log { path: decode(path).into(), longest: longest(query)? }),
            "binary" | "binary-v2" => Ok(Self::Logger {
                binary: decode(path).into(),
                arguments: arguments(query),
                wait_byte: scheme == "binary-v2",
            }),
            _ => Err(Error::Invalid(format!("output scheme {scheme:?} is not known"))),
        }
    }
}

/// What a log's query says of its records: nothing, or `max=<bytes>`.
fn longest(query: &str) -> Result<usize, Error> {
    let said = query.strip_prefix("max=");
    let bytes =
        if query.is_empty() { Some(LONGEST) } else { said.and_then(|text| text.parse().ok()) };
    bytes.filter(|bytes| RECORD.contains(bytes)).ok_or_else(|| {
        let (least, most) = (RECORD.start(), RECORD.end());
        Error::Invalid(format!("log query {query:?}: say max=<bytes>, from {least} to {most}"))
    })
}

/// The path in a fifo's name, with or without its scheme.
pub fn path_of(text: &str) -> &str {
    text.strip_prefix("fifo://").unwrap_or(text)
}

fn arguments(query: &str) -> Vec<String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let words = pairs.flat_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        [decode(key), decode(&value.replace('+', " "))]
    });
    words.filter(|word| !word.is_empty()).collect()
}

/// Undoes percent-encoding (RFC 3986 §2.1); what is not valid stays as it is.
fn decode(text: &str) -> String {
    String::from_utf8_lossy(&undo(text.as_bytes(), b'%', 2, 16)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_told_apart() {
        assert_eq!(Output::parse("").unwrap(), Output::None);
        assert_eq!(Output::parse("/run/f").unwrap(), Output::Fifo("/run/f".into()));
        assert_eq!(Output::parse("fifo:///run/f").unwrap(), Output::Fifo("/run/f".into()));
        assert_eq!(Output::parse("file:///a%20b").unwrap(), Output::File("/a b".into()));
        let logger = Output::parse("binary:///bin/log?--to=/x&tag=a+b").unwrap();
        let arguments = ["--to", "/x", "tag", "a b"].map(str::to_owned).to_vec();
        assert_eq!(
            logger,
            Output::Logger { binary: "/bin/log".into(), arguments, wait_byte: false }
        );
        assert_eq!(Output::parse("discard://").unwrap(), Output::Discard);
        let v2 = Output::parse("binary-v2:///bin/log").unwrap();
        assert!(matches!(v2, Output::Logger { wait_byte: true, .. }));
    }

    #[test]
    fn log_says_how_long_its_records_are() {
        let log = |longest| Output::Log { path: "/var/log/pods/a b/0.log".into(), longest };
        let name = "cri-log:///var/log/pods/a%20b/0.log";
        assert_eq!(Output::parse(name).unwrap(), log(16 << 10));
        assert_eq!(Output::parse(&format!("{name}?max=300")).unwrap(), log(300));
        for wrong in ["max=", "max=0", "max=-1", "max=1e9", "max=2000000", "size=300", "max=300&x"]
        {
            let error = Output::parse(&format!("{name}?{wrong}")).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("256"), "{error}");
        }
    }

    #[test]
    fn unknown_scheme_is_named() {
        let error = Output::parse("ttrpc+unix:///x").unwrap_err().to_string();
        assert!(error.contains("ttrpc+unix"), "{error}");
    }

    #[test]
    fn broken_percent_signs_stay() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
