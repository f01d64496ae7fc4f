//! How large names, labels and paths of a request may be (pure). Lists repeat them, errors and logs
//! name them, and a plugin gets them in its environment. One of a megabyte would make all of these
//! useless for everybody.

use std::collections::HashMap;

use protocol::cri::{ContainerConfig, PodSandboxConfig};

use crate::fault::Fault;

/// Most bytes of a name: as Kubernetes has it (DNS-1123 subdomain).
const NAME: usize = 253;

/// Most bytes of a path: the kernel's, without the zero at its end.
const PATH: usize = 4095;

/// Most bytes of all keys and values of labels, or of annotations. Kubernetes has half of it for
/// annotations, and the kubelet adds its own.
const TEXTS: usize = 512 << 10;

/// Checks a pod's texts.
///
/// # Errors
/// [`Fault::InvalidArgument`] with the field and both sizes.
pub(crate) fn pod(config: &PodSandboxConfig) -> Result<(), Fault> {
    let metadata = config.metadata.clone().unwrap_or_default();
    at_most("pod", "metadata.name", metadata.name.len(), NAME)?;
    at_most("pod", "metadata.namespace", metadata.namespace.len(), NAME)?;
    at_most("pod", "metadata.uid", metadata.uid.len(), NAME)?;
    at_most("pod", "hostname", config.hostname.len(), NAME)?;
    at_most("pod", "log_directory", config.log_directory.len(), PATH)?;
    at_most("pod", "labels", texts(&config.labels), TEXTS)?;
    at_most("pod", "annotations", texts(&config.annotations), TEXTS)
}

/// Checks a container's texts.
///
/// # Errors
/// As [`pod`].
pub(crate) fn container(config: &ContainerConfig) -> Result<(), Fault> {
    let name = config.metadata.as_ref().map_or(0, |metadata| metadata.name.len());
    let image = config.image.as_ref();
    let images = image.map_or(0, |image| image.image.len().max(image.user_specified_image.len()));
    at_most("container", "metadata.name", name, NAME)?;
    at_most("container", "image", images, PATH)?;
    at_most("container", "log_path", config.log_path.len(), PATH)?;
    at_most("container", "labels", texts(&config.labels), TEXTS)?;
    at_most("container", "annotations", texts(&config.annotations), TEXTS)
}

fn texts(all: &HashMap<String, String>) -> usize {
    all.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn at_most(of: &str, field: &str, found: usize, most: usize) -> Result<(), Fault> {
    match found <= most {
        true => Ok(()),
        false => {
            let text = format!("the {of}'s {field}: {found} bytes, and {most} are the most");
            Err(Fault::InvalidArgument(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::cri::PodSandboxMetadata;

    use super::*;

    #[test]
    fn bounds_themselves_are_allowed() {
        let named = |length| {
            let name = "x".repeat(length);
            let metadata = Some(PodSandboxMetadata { name, ..PodSandboxMetadata::default() });
            PodSandboxConfig { metadata, ..PodSandboxConfig::default() }
        };
        assert_eq!(pod(&named(NAME)), Ok(()));
        let text = "the pod's metadata.name: 254 bytes, and 253 are the most";
        assert_eq!(pod(&named(NAME + 1)), Err(Fault::InvalidArgument(text.into())));
        let labelled = |length| ContainerConfig {
            labels: [("ab".to_owned(), "x".repeat(length))].into(),
            ..ContainerConfig::default()
        };
        assert_eq!(container(&labelled(TEXTS - 2)), Ok(()));
        assert!(container(&labelled(TEXTS - 1)).is_err());
    }
}
