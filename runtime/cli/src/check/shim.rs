//! The shim, where containerd looks for it.

use super::Check;
use super::containerd_process::{Containerd, search};

const TOPIC: &str = "shim";
const NAME: &str = "containerd-shim-cuddy-v2";

pub(super) fn check(containerd: &Containerd) -> Check {
    if let Some(file) = search(containerd.shim_dirs.iter().cloned(), NAME) {
        return Check::ok(TOPIC, file.display().to_string());
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(NAME));
    match beside.filter(|file| file.is_file()) {
        Some(file) => Check::failed(
            TOPIC,
            format!("{} is not where containerd looks", file.display()),
            format!("Link it there: `ln -s {} /usr/local/bin/`.", file.display()),
        ),
        None => Check::failed(
            TOPIC,
            format!("{NAME} is neither in containerd's PATH nor beside containerd"),
            "Install Cuddy, and link the shim into a directory of containerd's PATH.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_shim_is_found_in_containerds_directories() {
        let dir = tempfile::tempdir().unwrap();
        let containerd =
            Containerd { shim_dirs: vec![dir.path().to_owned()], ..Containerd::default() };
        assert_eq!(check(&containerd).status, Status::Failed);
        std::fs::write(dir.path().join(NAME), "").unwrap();
        assert_eq!(check(&containerd).status, Status::Ok);
    }
}
