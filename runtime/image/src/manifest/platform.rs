//! Platforms, and which of them can run here (github.com/containerd/platforms, `Only`).

use std::fmt;

/// An operating system and a processor, in the words that images use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: String,
    features: Vec<String>,
}

impl Platform {
    /// What guests are: Linux on x86-64. As with containerd, images for the processor's newer
    /// levels (`v2` and so on) are not chosen.
    pub fn guest() -> Self {
        Self::new("linux", "amd64", "")
    }

    /// A platform by its parts, which may be written in other ways: `x86_64`, `aarch64`.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        // No system is said: the one that the asker has.
        let os = if os.is_empty() { "linux" } else { os };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            features: Vec::new(),
        }
    }

    /// The same platform, for images that ask the system for these abilities.
    pub(super) fn with_features(self, features: Vec<String>) -> Self {
        Self { features, ..self }
    }

    /// Whether it stands in an index for something that is no image, such as an attestation.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// How well this platform runs an image for another one: 0 is best. None: not at all.
    ///
    /// x86-64 runs its older levels, and then the 32-bit processor's images. The version of an
    /// operating system counts for Windows only.
    pub fn runs(&self, image: &Self) -> Option<usize> {
        let able = image.features.iter().all(|feature| self.features.contains(feature));
        if self.os != image.os || !able {
            return None;
        }
        let level = |variant: &str| -> Option<usize> {
            variant.strip_prefix('v').unwrap_or(variant).parse().ok()
        };
        let own = if self.variant.is_empty() { Some(1) } else { level(&self.variant) };
        match (self.architecture.as_str(), image.architecture.as_str(), own) {
            ("amd64", "amd64", Some(own)) => {
                let asked = if image.variant.is_empty() { 1 } else { level(&image.variant)? };
                own.checked_sub(asked).filter(|_| asked > 0)
            }
            ("amd64", "386", Some(own)) if image.variant.is_empty() => Some(own),
            (own, asked, _) => (own == asked && self.variant == image.variant).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.variant) }
    }
}
