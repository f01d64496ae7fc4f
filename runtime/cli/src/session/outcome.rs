//! How a process ended, as the daemon says it: a `metav1.Status` as JSON (pure).

use serde_json::Value;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this exit code.
    Exited(i32),
    /// It did not run, or nobody knows how it ended; why.
    Failed(String),
}

impl Outcome {
    /// Reads what the daemon says.
    pub(super) fn read(text: &[u8]) -> Self {
        let unclear = || Self::Failed(String::from_utf8_lossy(text).into_owned());
        let Ok(status) = serde_json::from_slice::<Value>(text) else { return unclear() };
        if status["status"] == "Success" {
            return Self::Exited(0);
        }
        let causes = status["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
        let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
        let code = code.and_then(|cause| cause["message"].as_str()?.parse().ok());
        match (code, status["message"].as_str()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(message)) => Self::Failed(message.to_owned()),
            (None, None) => unclear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_read_from_the_status() {
        let read = |text: &str| Outcome::read(text.as_bytes());
        assert_eq!(read(r#"{"metadata":{},"status":"Success"}"#), Outcome::Exited(0));
        let failure = r#"{"status":"Failure","message":"exit status 42","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        assert_eq!(read(failure), Outcome::Exited(42));
        let error = r#"{"status":"Failure","message":"no such file","reason":"InternalError"}"#;
        assert_eq!(read(error), Outcome::Failed("no such file".into()));
        assert_eq!(read("text"), Outcome::Failed("text".into()));
        assert_eq!(read("{}"), Outcome::Failed("{}".into()));
    }
}
