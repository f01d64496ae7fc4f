//! AppArmor profiles of the host, for the guest. A container names a profile that the host's kernel
//! has loaded. The guest's kernel has none, and is given the same compiled policy. The host's
//! kernel keeps what it was given (`export_binary`, on by default) below its securityfs. See its
//! `security/apparmor/apparmorfs.c`.

use std::fs;
use std::path::{Path, PathBuf};

use api::Error;

use crate::spec::Document;

/// Where the host's kernel shows its policy.
const POLICY: &str = "/sys/kernel/security/apparmor/policy";

/// Largest policy in bytes; those of container engines have tens of kilobytes.
const MAX_POLICY: u64 = 1 << 20;

/// Profiles that engines give to every container unasked. Where such a one can't be taken along,
/// the machine is boundary enough; a profile that somebody chose must not be left out.
const UNASKED: [&str; 4] =
    ["cri-containerd.apparmor.d", "crio-default", "docker-default", "nerdctl-default"];

/// The key by which the agent finds the policy, as hexadecimal digits.
const KEY: &str = "/cuddyApparmorPolicy";

/// Puts the policy of the profile that the process of a guest's configuration names beside it.
/// Returns what was left out, in plain words.
///
/// # Errors
/// [`Error::Invalid`] when the host does not have the profile, or can't export it.
pub(crate) fn carry(spec: &mut Document) -> Result<Option<String>, Error> {
    let path = "/process/apparmorProfile";
    let Some(profile) = profile_at(spec, path)? else { return Ok(None) };
    match export(Path::new(POLICY), &profile) {
        Ok(policy) => spec.set(KEY, digits(&policy)).map(|()| None),
        Err(reason) => leave_out(spec, path, &profile, &reason).map(Some),
    }
}

/// As [`carry`] for an additional process, which finds what its container has brought along.
///
/// # Errors
/// As [`carry`].
pub(crate) fn check(process: &mut Document) -> Result<Option<String>, Error> {
    let path = "/apparmorProfile";
    let Some(profile) = profile_at(process, path)? else { return Ok(None) };
    match find(Path::new(POLICY), &profile) {
        Ok(_) => Ok(None),
        Err(reason) => leave_out(process, path, &profile, &reason).map(Some),
    }
}

fn profile_at(document: &Document, path: &str) -> Result<Option<String>, Error> {
    Ok(document.text(path)?.filter(|profile| profile != "unconfined"))
}

fn leave_out(
    document: &mut Document,
    path: &str,
    profile: &str,
    reason: &str,
) -> Result<String, Error> {
    let text = format!("AppArmor profile {profile:?} can't be taken into the guest: {reason}");
    if !UNASKED.contains(&profile) {
        return Err(Error::Invalid(text));
    }
    document.remove(path);
    Ok(text)
}

/// The compiled policy that has `profile`.
fn export(policy: &Path, profile: &str) -> Result<Vec<u8>, String> {
    let file = find(policy, profile)?.join("raw_data");
    let unreadable = |error: std::io::Error| {
        format!("the kernel does not export it ({}: {error})", file.display())
    };
    let length = fs::metadata(&file).map_err(unreadable)?.len();
    if length > MAX_POLICY {
        return Err(format!("its policy has {length} bytes, more than {MAX_POLICY}"));
    }
    fs::read(&file).map_err(unreadable)
}

/// The directory of a loaded profile, named after it with a number behind.
fn find(policy: &Path, profile: &str) -> Result<PathBuf, String> {
    let start = directory_name(profile);
    let entries = fs::read_dir(policy.join("profiles"));
    let entries = entries.map_err(|error| format!("the host shows no policy ({error})"))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(&start).is_some_and(|rest| rest.starts_with('.'))
    });
    let named = |path: &PathBuf| {
        fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim_end() == profile)
    };
    found.find(named).ok_or_else(|| "the host has not loaded it".to_owned())
}

/// What the kernel makes of a profile's name for a directory (`mangle_name`).
fn directory_name(profile: &str) -> String {
    let letters = profile.trim_start_matches(['/', '.']).chars();
    let mapped = letters.filter_map(|letter| match letter {
        '/' => Some('.'),
        ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => Some('_'),
        '.' | '_' | '-' => Some(letter),
        _ => Some(letter).filter(char::is_ascii_alphanumeric),
    });
    mapped.collect()
}

fn digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As the kernel has it: two profiles of one name start, one without its policy.
    fn policy() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (directory, name) in [("a.b.1", "/a/b"), ("a.b.c.2", "/a/b/c"), ("plain.3", "plain")] {
            let path = dir.path().join("profiles").join(directory);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("name"), format!("{name}\n")).unwrap();
            if name != "plain" {
                fs::write(path.join("raw_data"), name).unwrap();
            }
        }
        dir
    }

    #[test]
    fn profile_is_found_by_its_whole_name() {
        let policy = policy();
        assert_eq!(export(policy.path(), "/a/b").unwrap(), b"/a/b");
        assert_eq!(export(policy.path(), "/a/b/c").unwrap(), b"/a/b/c");
        assert!(export(policy.path(), "a").unwrap_err().contains("not loaded"));
        assert!(export(policy.path(), "plain").unwrap_err().contains("does not export"));
        assert!(export(Path::new("/nowhere"), "x").unwrap_err().contains("no policy"));
    }

    #[test]
    fn names_are_mangled_as_the_kernel_does() {
        for (name, directory) in [("/usr/bin/x y", "usr.bin.x_y"), ("a*{b}", "ab"), ("..p", "p")] {
            assert_eq!(directory_name(name), directory);
        }
    }

    #[test]
    fn only_what_nobody_asked_for_is_left_out() {
        let at = "/apparmorProfile";
        let mut process = Document::from(json!({"apparmorProfile": "docker-default", "args": []}));
        assert!(leave_out(&mut process, at, "docker-default", "why").unwrap().contains("why"));
        assert_eq!(process, json!({"args": []}).into());
        let error = leave_out(&mut process, at, "mine", "why").unwrap_err().to_string();
        assert!(error.contains("\"mine\"") && error.contains("why"), "{error}");
    }

    #[test]
    fn nothing_is_carried_where_nothing_is_named() {
        for process in
            [json!({}), json!({"apparmorProfile": ""}), json!({"apparmorProfile": "unconfined"})]
        {
            let mut spec = Document::from(json!({"process": process}));
            assert_eq!(carry(&mut spec), Ok(None));
            assert!(spec.json(KEY).is_null());
        }
        assert_eq!(digits(&[0, 255, 16]), "00ff10");
    }
}
