//! Why a container's configuration can't be carried out.

use api::text::printable;

/// Most bytes of a stranger's text in an error.
const SHOWN: usize = 256;

/// Why no OCI configuration was made. Each text names what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither the request nor the image says what to run.
    #[error("no command specified: neither the container nor its image has one")]
    NoCommand,
    /// An argument, a working directory or an image's word that no process can be given.
    #[error("{what}: {reason}")]
    Process {
        /// The part of the configuration.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A variable that no process can be given.
    #[error("environment variable \"{name}\": {reason}")]
    Env {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Who the process shall be is not known.
    #[error("user \"{user}\": {reason}")]
    User {
        /// The user, as it was asked for.
        user: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A capability, or a profile of seccomp or AppArmor, that can't be had.
    #[error("{what}: {reason}")]
    Confinement {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A mount that can't be had.
    #[error("mount at \"{path}\": {reason}")]
    Mount {
        /// The path in the container.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kubelet looks for the first word.
    #[error("RROUnsupported: mount at \"{path}\": {reason}")]
    RecursiveReadOnly {
        /// The path in the container.
        path: String,
        /// Why it can't be had.
        reason: &'static str,
    },
    /// The kubelet looks for the first word.
    #[error("ImageVolumeMountFailed: mount of image \"{image}\" at \"{path}\": {reason}")]
    ImageVolume {
        /// The image.
        image: String,
        /// The path in the container.
        path: String,
        /// Why it can't be had.
        reason: String,
    },
    /// Namespaces that don't fit each other or the pod.
    #[error("{kind} namespace: {reason}")]
    Namespace {
        /// Which one.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A device that can't be had.
    #[error("device \"{name}\": {reason}")]
    Device {
        /// Its path or CDI name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit or a cgroup that can't be set.
    #[error("resource {name}: {reason}")]
    Resource {
        /// CRI's name of it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The handler of the pod gives no such thing.
    #[error("{0}")]
    Refused(String),
}

/// A stranger's text as errors show it.
pub(super) fn shown(text: &str) -> String {
    printable(text, SHOWN)
}
