//! `--restart`: when the daemon starts a container again.

/// The annotation by which the daemon is told.
pub(crate) const ANNOTATION: &str = "dev.cuddy.restart";

/// What needs no daemon.
pub(crate) const NO: &str = "no";

/// Reads `no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn policy(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("on-failure:").map(str::parse::<u32>);
    match (text, number) {
        (NO | "on-failure" | "always" | "unless-stopped", _) | (_, Some(Ok(_))) => {
            Ok(text.to_owned())
        }
        _ => Err("say no, on-failure, on-failure:N, always or unless-stopped".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::policy;

    #[test]
    fn policies_are_those_of_docker() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(policy(text).unwrap(), text);
        }
        for text in ["", "never", "on-failure:", "on-failure:-1", "always:1"] {
            assert!(policy(text).unwrap_err().contains("on-failure:N"), "{text}");
        }
    }
}
