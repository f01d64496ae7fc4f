//! Names that callers give. A valid one is safe as a file name, so that state and mounts can be
//! kept under it; the rule is containerd's (`pkg/identifiers`).

use std::fmt;

/// Longest id in bytes.
pub const MAX_ID: usize = 76;

/// A name that can't be used as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} {text:?} is not valid: 1 to 76 letters, digits and single inner '.', '_' or '-' are"
)]
pub struct IdError {
    /// What was to be named.
    kind: &'static str,
    /// The name, shortened to a length that fits a message.
    text: String,
}

fn valid(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    let inner = bytes.windows(2).all(|pair| {
        pair.iter().all(|byte| plain(byte) || b"._-".contains(byte)) && pair.iter().any(plain)
    });
    ends && inner && bytes.len() <= MAX_ID
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or could not be a file name.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { kind: $kind, text: text.chars().take(100).collect() })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Name of a pod-level unit: one machine.
    SandboxId,
    "sandbox id"
);
id!(
    /// Name of a container within its namespace.
    ContainerId,
    "container id"
);
id!(
    /// Name of an additional process within its container.
    ExecId,
    "exec id"
);
id!(
    /// Name of containerd's namespace: sandboxes of different namespaces may share ids.
    Namespace,
    "namespace"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a..b", "-a", "a-", "a\0", "a b", "ä"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?} accepted");
        }
        assert!(ContainerId::new(&"a".repeat(77)).is_err());
    }

    #[test]
    fn names_that_containerd_gives_are_taken() {
        for good in ["k8s.io", "moby", "a", "3f2e", "web-1_2.x", &"a".repeat(76)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}
