//! What Kubernetes and an image say of a container, on its way to an OCI configuration.
//!
//! Checked besides panics: see `cri::spec::fuzzing`. Above all, the configuration names no path of
//! the host that the input does not name.

/// Runs one input.
pub fn run(input: &[u8]) {
    cri::spec::fuzzing::run(input);
}
