//! The node's AppArmor: what is loaded, and the default profile of containers on the node. A machine
//! loads policy in its own kernel.

mod profile;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::spec::{AppArmor, DEFAULT_APPARMOR};

/// Profiles that are loaded, a line each. It is there where the kernel has AppArmor.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// What compiles and loads a profile (apparmor_parser(8)).
pub(crate) const PARSER: &str = "apparmor_parser";

/// Where it is in spite of `PATH`: that of a user may leave these out.
const PLACES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// How long it may take: it compiles for some 100 ms.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether the node's kernel has it.
pub(crate) fn is_there() -> bool {
    Path::new(LOADED).exists()
}

/// The profiles that are loaded now; none where there is no AppArmor.
pub(crate) fn loaded() -> Option<AppArmor> {
    let text = std::fs::read_to_string(LOADED).ok()?;
    Some(AppArmor { loaded: profiles(&text), failed: String::new() })
}

/// The same for a container on the node: the default profile is loaded unless it is, or else it is
/// said why not.
pub(crate) async fn with_default() -> Option<AppArmor> {
    let found = loaded()?;
    if found.loaded.contains(DEFAULT_APPARMOR) {
        return Some(found);
    }
    match load().await {
        Ok(()) => loaded(),
        Err(failed) => {
            log::warn!("{DEFAULT_APPARMOR}, AppArmor's default profile, is not loaded: {failed}");
            Some(AppArmor { failed, ..found })
        }
    }
}

/// Where the parser is, in `path`, which has the form of `PATH`, or where it mostly is.
pub(crate) fn parser(path: &OsStr) -> Option<PathBuf> {
    let places = std::env::split_paths(path).chain(PLACES.into_iter().map(PathBuf::from));
    places.map(|place| place.join(PARSER)).find(|file| file.is_file())
}

/// Loads the default profile, in place of one of this name that came meanwhile.
async fn load() -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let parser = parser(&path).ok_or_else(|| format!("{PARSER} is missing (Debian: apparmor)"))?;
    let doing = |error: std::io::Error| format!("{}: {error}", parser.display());
    // Without its cache, which may be of another profile of this name.
    let mut command = Command::new(&parser);
    command.args(["--replace", "--skip-cache"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(doing)?;
    let input = child.stdin.take();
    let work = async {
        if let Some(mut input) = input {
            // One that has ended says why below.
            let _taken = input.write_all(profile::text().as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(LIMIT, work).await;
    let output = done.map_err(|_| format!("{}: no end in {LIMIT:?}", parser.display()))?;
    let output = output.map_err(doing)?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = api::text::printable(said.trim(), 400);
            Err(format!("{}: {}: {said}", parser.display(), output.status))
        }
    }
}

/// The names of profiles, as `cri-containerd.apparmor.d (enforce)` (pure).
fn profiles(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.rsplit_once(" (").map(|(name, _)| name));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_profiles_may_have_spaces() {
        let names = profiles("a b (enforce)\nunconfined (complain)\nnonsense\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a b", "unconfined"]);
    }

    #[test]
    fn parser_is_looked_for_in_the_path_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PARSER), "").unwrap();
        assert_eq!(parser(dir.path().as_os_str()).unwrap(), dir.path().join(PARSER));
    }
}
