//! Entries of an EROFS image, by any calls to its writer.
//!
//! Checked besides panics: each call succeeds as a model says. The image is read by other code than
//! the writer's, and is the model's tree.

/// Runs one input.
pub fn run(input: &[u8]) {
    ::erofs::fuzzing::run(input);
}
