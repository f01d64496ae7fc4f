//! The forms in which containerd names an output (pure). They are a bare path or `fifo://`,
//! `file://`, `binary://` and `binary-v2://`. The last two name a logger. It signals readiness by
//! closing a pipe (`binary://`) or by a byte (`binary-v2://`).

use std::path::PathBuf;

use api::Error;

use syscalls::escapes::undo;

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    None,
    /// Into a fifo that exists.
    Fifo(PathBuf),
    /// At the end of a file, made if missing with its directories.
    File(PathBuf),
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
            "binary" | "binary-v2" => Ok(Self::Logger {
                binary: decode(path).into(),
                arguments: arguments(query),
                wait_byte: scheme == "binary-v2",
            }),
            _ => Err(Error::Invalid(format!("output scheme {scheme:?} is not known"))),
        }
    }
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
        let v2 = Output::parse("binary-v2:///bin/log").unwrap();
        assert!(matches!(v2, Output::Logger { wait_byte: true, .. }));
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
