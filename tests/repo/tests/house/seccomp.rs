//! Every system call that a VMM thread may make has its reason beside it.

use serde_json::Value;

use crate::tree::{expect_none, files, read};

#[test]
fn every_seccomp_rule_says_why() {
    let mut findings = Vec::new();
    let mut rules = 0;
    for file in files().iter().filter(|file| file.starts_with("vmm/seccomp")) {
        let list: Value = serde_json::from_str(&read(file))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for rule in list.as_array().unwrap_or_else(|| panic!("{}: not a list", file.display())) {
            rules += 1;
            let arguments = rule["args"].as_array().into_iter().flatten();
            let silent = std::iter::once(rule).chain(arguments).any(|part| {
                part["comment"].as_str().is_none_or(|comment| comment.trim().len() < 4)
            });
            if silent {
                findings.push(format!("{}: {}", file.display(), rule["syscall"]));
            }
        }
    }
    assert!(rules > 20, "only {rules} seccomp rules found: has their folder moved?");
    expect_none(&findings, "seccomp rules without a comment");
}
