//! The files of the repository.

use std::path::{Path, PathBuf};

/// The top folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files below the top folder that git would track, relative to it.
pub(crate) fn files() -> Vec<PathBuf> {
    let root = root();
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .expect("git ls-files");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<_> = listed.lines().map(PathBuf::from).collect();
    assert!(files.len() > 20, "git lists only {} files", files.len());
    files.into_iter().filter(|file| root.join(file).is_file()).collect()
}

/// The contents of a file of the repository.
pub(crate) fn read(file: &Path) -> String {
    let path = root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources, test code included.
pub(crate) fn rust_files() -> Vec<PathBuf> {
    files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")).collect()
}

/// Whether a Rust source is test code as a whole.
pub(crate) fn is_test_code(file: &Path) -> bool {
    let in_tests_folder = file.components().any(|part| part.as_os_str() == "tests");
    file.file_name().is_some_and(|name| name == "tests.rs") || in_tests_folder
}

/// Fails with all findings at once, if there are any.
pub(crate) fn expect_none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}\n", findings.join("\n  "));
}
