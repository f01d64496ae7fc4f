use super::*;

const DROP_IN_V2: &str = include_str!("../../../../../deploy/containerd/config-v2.toml");
const DROP_IN_V3: &str = include_str!("../../../../../deploy/containerd/config-v3.toml");
const DROP_IN_SHIM: &str =
    include_str!("../../../../../deploy/containerd/config-v3-sandboxer-shim.toml");

fn file(name: &str, text: &str) -> File {
    File { path: name.into(), table: text.parse().unwrap() }
}

fn judge_text(text: &str, release: Release) -> Check {
    check(&[file("config.toml", text)], Some(release)).unwrap()
}

/// The version 3 drop-in with something else in the place of a part of it.
fn changed(from: &str, to: &str, release: Release) -> Check {
    assert!(DROP_IN_V3.contains(from));
    judge_text(&DROP_IN_V3.replace(from, to), release)
}

#[test]
fn the_drop_ins_are_as_they_should_be_for_their_versions() {
    for release in [(1, 6), (1, 7), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)] {
        let check = judge_text(DROP_IN_V2, release);
        assert_eq!(check.status, Status::Ok, "{release:?}: {check:?}");
    }
    for release in [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4)] {
        let check = judge_text(DROP_IN_V3, release);
        assert_eq!(check, Check::ok(TOPIC, "cuddy as it should be"), "{release:?}");
    }
    for release in [(2, 1), (2, 2), (2, 3), (2, 4)] {
        let both = [file("a", DROP_IN_V3), file("b", DROP_IN_SHIM)];
        let check = check(&both, Some(release)).unwrap();
        assert_eq!(check, Check::ok(TOPIC, "cuddy and cuddy-sandbox as it should be"));
    }
}

/// What the comment in the drop-in says.
#[test]
fn the_pause_image_can_be_left_out_from_2_4_on() {
    const LINE: &str = "#   disable_pause_image_pull = true";
    assert!(DROP_IN_SHIM.contains(LINE));
    let text = DROP_IN_SHIM.replace(LINE, "disable_pause_image_pull = true");
    assert_eq!(judge_text(&text, (2, 4)).status, Status::Ok);
    let older = judge_text(&text, (2, 3));
    assert!(older.found.contains("2.3 ignores \"disable_pause_image_pull\""), "{older:?}");
}

#[test]
fn keys_that_containerd_2_dropped_are_named() {
    let check =
        changed("privileged_without", "runtime_root = \"/x\"\n  privileged_without", (2, 1));
    assert!(check.found.contains("2.1 ignores \"runtime_root\""), "{check:?}");
}

#[test]
fn who_has_no_such_runtime_hears_nothing() {
    assert!(check(&[file("config.toml", "version = 3\n")], Some((2, 1))).is_none());
    assert!(check(&[], None).is_none());
}

#[test]
fn a_misspelled_key_and_a_type_that_does_not_exist_are_found() {
    let check = changed("pod_annotations", "pod_anotations", (2, 1));
    assert_eq!(check.status, Status::Warning);
    assert!(check.action.unwrap().contains("\"pod_annotations\""));
    let check = changed("cuddy.v2\"", "cuddy.v1\"", (2, 1));
    assert_eq!(check.status, Status::Failed);
    assert!(check.found.contains("io.containerd.cuddy.v1 does not exist"), "{check:?}");
}

#[test]
fn the_controller_has_to_fit_the_version() {
    let shim = |release| judge_text(DROP_IN_SHIM, release);
    assert!(shim((2, 0)).found.contains("forgets sandboxes"));
    assert!(shim((1, 7)).found.contains("1.7 ignores \"sandboxer\""));
    let check = changed("\"podsandbox\"", "\"pod\"", (2, 1));
    assert_eq!(check.status, Status::Failed);
}

#[test]
fn devices_of_the_node_and_every_annotation_are_too_much() {
    let check = changed("devices = true", "devices = false", (2, 1));
    assert!(check.found.contains("the node's devices"), "{check:?}");
    let check = changed("pod_annotations = [\"dev.cuddy.*\"]", "pod_annotations = ['*']", (2, 1));
    assert_eq!(check.status, Status::Warning);
    let check = changed("pod_annotations = [\"dev.cuddy.*\"]", "pod_annotations = 'x'", (2, 1));
    assert_eq!(check.status, Status::Failed);
}

#[test]
fn a_shim_that_is_not_there_is_named() {
    let with_path = "devices = true\n  runtime_path = '/no/such/shim'";
    let check = changed("devices = true", with_path, (2, 1));
    assert_eq!(check.status, Status::Failed);
    assert!(check.found.contains("/no/such/shim"));
}

/// The two lines that deploy/README.md gives for runc's type, naming a shim in `directory`.
fn lines_of_the_readme(directory: &str) -> String {
    const README: &str = include_str!("../../../../../deploy/README.md");
    let block = README.split("```toml\n").find(|block| block.starts_with("runtime_type")).unwrap();
    let lines = block.split("```").next().unwrap();
    assert!(lines.contains("/usr/local/bin/") && lines.contains(RUNC), "{lines}");
    lines.replace("/usr/local/bin", directory)
}

#[test]
fn runcs_type_with_the_shims_path_is_as_the_readme_says() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(SHIM), "").unwrap();
    let lines = lines_of_the_readme(directory.path().to_str().unwrap());
    for (name, release) in [("cuddy", (2, 0)), ("cuddy", (2, 2)), ("vm", (2, 1))] {
        let text = DROP_IN_V3
            .replace("runtime_type = \"io.containerd.cuddy.v2\"\n", &lines)
            .replace("runtimes.cuddy]", &format!("runtimes.{name}]"));
        let check = judge_text(&text, release);
        assert_eq!(check, Check::ok(TOPIC, format!("{name} as it should be")), "{release:?}");
    }
    let check = changed("io.containerd.cuddy.v2", RUNC, (2, 1));
    assert_eq!(check.status, Status::Failed);
    assert!(check.found.contains("executes runc"), "{check:?}");
}

#[test]
fn images_are_unpacked_for_the_runtimes_snapshotter() {
    let with = "devices = true\n  snapshotter = 'erofs'";
    assert_eq!(changed("devices = true", with, (2, 3)).status, Status::Ok);
    let check = changed("devices = true", with, (2, 1));
    let action = check.action.unwrap();
    assert!(action.contains("runtime_platforms.cuddy"), "{action}");
    let section = action.split_once('\n').unwrap().1;
    let complete = DROP_IN_V3.replace("devices = true", with) + section;
    assert_eq!(judge_text(&complete, (2, 1)).status, Status::Ok);
    assert!(changed("devices = true", with, (1, 6)).found.contains("ignores \"snapshotter\""));
}

#[test]
fn older_versions_replace_what_newer_ones_merge() {
    let main = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n";
    let files = [file("main", main), file("drop-in", DROP_IN_V2)];
    let old = check(&files, Some((1, 7))).unwrap();
    assert_eq!(old.status, Status::Warning);
    assert!(old.found.contains("drop-in replaces what main says"), "{old:?}");
    assert_eq!(check(&files, Some((2, 1))).unwrap().status, Status::Ok);
    let files = [file("first", DROP_IN_V2), file("last", main)];
    let hidden = check(&files, Some((1, 6))).unwrap();
    assert_eq!(hidden.status, Status::Failed);
    assert!(hidden.found.contains("last hides the runtime"), "{hidden:?}");
}

#[test]
fn older_versions_need_an_entry_for_ordinary_pods() {
    let (ours, _) = DROP_IN_V2.split_once("# ---- to here").unwrap();
    let check = judge_text(ours, (1, 6));
    assert_eq!(check.status, Status::Failed);
    assert!(check.found.contains("ordinary pods have no runtime"), "{check:?}");
    assert_eq!(judge_text(ours, (2, 1)).status, Status::Ok);
}
