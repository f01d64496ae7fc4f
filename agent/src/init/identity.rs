//! `process.user.username`: the image's names, looked up once the container's root is this
//! process's own. The host looks up none: the files are hostile, as all of an image. What may be in
//! their place is [`accounts::Files`]' business.

use std::ffi::CString;
use std::path::Path;

use accounts::{AccountError, Files, Request};
use oci_spec::runtime::User;
use rustix::fs::{Mode, OFlags};

use super::failure::Context;
use crate::control::{Failure, Order};

/// Who a process is.
#[derive(Debug)]
pub(super) struct Identity {
    /// By numbers alone.
    pub(super) user: User,
    /// `HOME=…`, for an environment that has none.
    pub(super) home: CString,
}

/// Looks up who the process of an order shall be, and where that user is at home.
///
/// # Errors
/// The image does not have the user or the group, or its files are none.
pub(super) fn look_up(order: &Order) -> Result<Identity, Failure> {
    look_up_below(Path::new("/"), order)
}

fn look_up_below(root: &Path, order: &Order) -> Result<Identity, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).context("open the root")?;
    let root = std::os::fd::AsFd::as_fd(&root);
    let process = &order.process;
    let Some(text) = process.user.username().as_deref().filter(|text| !text.is_empty()) else {
        let stated = process.env.iter().any(|entry| entry.starts_with("HOME="));
        // A container runs without a home, too.
        let files = if stated { None } else { Files::users(root).ok() };
        let user = process.user.clone();
        return Ok(Identity { home: home(&files.unwrap_or_default(), user.uid()), user });
    };
    let failed =
        |error: AccountError| Failure::configuration(format_args!("user {text:?}: {error}"));
    let merge =
        order.spec.annotations.get(accounts::GROUPS).is_some_and(|how| how == accounts::MERGE);
    let groups = process.user.additional_gids().clone().unwrap_or_default();
    let request = Request::parse(text, merge, groups).map_err(failed)?;
    let files = Files::read(root).map_err(failed)?;
    let ids = request.resolve(&files).map_err(failed)?;
    let mut user = process.user.clone();
    user.set_uid(ids.uid).set_gid(ids.gid).set_additional_gids(Some(ids.groups)).set_username(None);
    Ok(Identity { home: home(&files, ids.uid), user })
}

/// The variable for the home directory that the image has for a user, else `/`.
fn home(files: &Files, uid: u32) -> CString {
    let variable = [b"HOME=", files.home(uid).unwrap_or(b"/")].concat();
    CString::new(variable).unwrap_or_else(|_| c"HOME=/".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::control::FailureKind;
    use crate::oci::{Process, Spec};

    fn order(user: &Value, annotations: &Value, env: &[&str]) -> Order {
        let process = json!({"user": user, "env": env});
        Order {
            container_id: "c".to_owned(),
            spec: Box::new(
                serde_json::from_value::<Spec>(json!({"annotations": annotations})).unwrap(),
            ),
            process: Box::new(serde_json::from_value::<Process>(process).unwrap()),
            filter: None,
            cgroup: PathBuf::new(),
            join: false,
        }
    }

    fn image() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/www:/bin/sh\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), "logs:x:50:web\nops:x:51:root\n").unwrap();
        root
    }

    #[test]
    fn name_becomes_numbers_by_the_images_files() {
        let root = image();
        let user = json!({"uid": 65534, "gid": 65534, "username": "web", "additionalGids": [7], "umask": 2});
        let merge = json!({accounts::GROUPS: accounts::MERGE});
        for (annotations, groups) in [(merge, &[7, 34, 50][..]), (json!({}), &[7, 34])] {
            let found = look_up_below(root.path(), &order(&user, &annotations, &[])).unwrap();
            assert_eq!((found.user.uid(), found.user.gid()), (33, 34));
            assert_eq!(found.user.additional_gids().as_deref(), Some(groups));
            assert_eq!((found.user.umask(), found.user.username()), (Some(2), &None));
            assert_eq!(found.home.as_c_str(), c"HOME=/www");
        }
    }

    #[test]
    fn numbers_stay_as_they_are_whatever_the_image_has() {
        let root = image();
        let user = json!({"uid": 33, "gid": 5, "additionalGids": [9, 8]});
        let merge = json!({accounts::GROUPS: accounts::MERGE});
        let order = order(&user, &merge, &[]);
        let found = look_up_below(root.path(), &order).unwrap();
        assert_eq!(found.user, order.process.user);
        assert_eq!(found.home.as_c_str(), c"HOME=/www");
        std::fs::remove_file(root.path().join("etc/passwd")).unwrap();
        std::fs::create_dir(root.path().join("etc/passwd")).unwrap();
        let found = look_up_below(root.path(), &order).unwrap();
        assert_eq!((&found.user, found.home.as_c_str()), (&order.process.user, c"HOME=/"));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let root = image();
        let failed = |name: &str| {
            let order = order(&json!({"username": name}), &json!({}), &[]);
            look_up_below(root.path(), &order).unwrap_err()
        };
        for (name, text) in [
            ("ghost", r#"user "ghost": not in /etc/passwd of the image"#),
            ("web:ghost", r#"user "web:ghost": the group is not in /etc/group of the image"#),
        ] {
            let failure = failed(name);
            assert_eq!(
                (failure.kind, failure.message.as_str()),
                (FailureKind::Configuration, text)
            );
        }
        let directory = root.path().join("etc/group");
        std::fs::remove_file(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        let text = r#"user "web": /etc/group of the image is no regular file"#;
        assert_eq!(failed("web").message, text);
    }
}
