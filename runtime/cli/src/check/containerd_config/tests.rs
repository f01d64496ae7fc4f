use std::fs;

use super::super::Status;
use super::*;

const V2: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.cuddy]\n\
    runtime_type = 'io.containerd.cuddy.v2'\n";
const V3: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm]\n\
    runtime_type = 'io.containerd.cuddy.v2'\n";
const RUNC: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\n\
    runtime_type = 'io.containerd.runc.v2'\n";

fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = dir.path().join("config.toml");
    (dir, root)
}

fn judge(files: &[(&str, &str)], release: (u32, u32)) -> Check {
    let (_dir, root) = written(files);
    evaluate(&root, &load(&root).unwrap(), Some(release))
}

#[test]
fn the_runtime_is_found_in_every_version() {
    assert!(judge(&[("config.toml", V2)], (1, 6)).found.contains("runtime \"cuddy\""));
    assert!(judge(&[("config.toml", V3)], (2, 0)).found.contains("runtime \"vm\""));
    let v4 = V3.replace("version = 3", "version = 4");
    assert_eq!(judge(&[("config.toml", &v4)], (2, 3)).status, Status::Ok);
    let v1 = V2.replace("version = 2", "").replace(CRI_V2, "cri");
    assert_eq!(judge(&[("config.toml", &v1)], (1, 6)).status, Status::Ok);
}

#[test]
fn the_runtime_is_found_by_its_shim_under_the_name_of_runcs() {
    let other = "runtime_type = 'io.containerd.runc.v2'\n  runtime_path = '/x/";
    let own = V3.replace("runtime_type = 'io.containerd.cuddy.v2", other);
    let ours = own.replace("/x/", "/x/containerd-shim-cuddy-v2");
    assert!(judge(&[("config.toml", &ours)], (2, 1)).found.contains("runtime \"vm\""));
    let runc = own.replace("/x/", "/x/containerd-shim-runc-v2");
    assert_ne!(judge(&[("config.toml", &runc)], (2, 1)).status, Status::Ok);
}

#[test]
fn an_older_file_is_read_by_a_newer_containerd() {
    assert_eq!(judge(&[("config.toml", V2)], (2, 1)).status, Status::Ok);
}

#[test]
fn drop_ins_are_followed_through_patterns_and_relative_paths() {
    let root = "version = 3\nimports = ['conf.d/*.toml']\n";
    let check = judge(&[("config.toml", root), ("conf.d/b.toml", V3)], (2, 2));
    assert_eq!(check.status, Status::Ok, "{check:?}");
    assert!(check.found.ends_with("conf.d/b.toml"), "{}", check.found);
    let check = judge(&[("config.toml", root), ("conf.d/a.toml", V2)], (2, 2));
    assert_eq!(check.status, Status::Ok, "{check:?}");
}

#[test]
fn imports_in_a_circle_end() {
    let files = [
        ("config.toml", "version = 2\nimports = ['a.toml']\n"),
        ("a.toml", "version = 2\nimports = ['config.toml', 'a.toml']\n"),
    ];
    let (_dir, root) = written(&files);
    assert_eq!(load(&root).unwrap().len(), 2);
}

#[test]
fn an_import_that_is_missing_is_an_error_with_its_name() {
    let (_dir, root) = written(&[("config.toml", "version = 2\nimports = ['none.toml']\n")]);
    assert!(load(&root).unwrap_err().contains("none.toml"));
}

#[test]
fn broken_toml_names_the_file_in_one_line() {
    let (_dir, root) = written(&[("config.toml", "version = = 2\n")]);
    let problem = load(&root).unwrap_err();
    assert!(problem.contains("config.toml") && !problem.contains('\n'), "{problem}");
}

#[test]
fn the_snippet_fits_the_file_and_makes_it_right() {
    for (text, release) in [(RUNC, (1, 7)), (RUNC, (2, 1)), ("version = 3\n", (2, 1))] {
        let check = judge(&[("config.toml", text)], release);
        assert_eq!(check.status, Status::Warning);
        let action = check.action.unwrap();
        let (first, snippet) = action.split_once('\n').unwrap();
        assert!(first.starts_with("Add to "), "{first}");
        let fixed = format!("{text}{snippet}\n");
        assert_eq!(judge(&[("config.toml", &fixed)], release).status, Status::Ok, "{fixed}");
    }
}

#[test]
fn without_a_file_the_snippet_is_a_whole_file() {
    for (release, version) in
        [((1, 7), "version = 2"), ((2, 2), "version = 3"), ((2, 4), "version = 4")]
    {
        let action = judge(&[], release).action.unwrap();
        let (_, file) = action.split_once('\n').unwrap();
        assert!(file.starts_with(version), "{file}");
        assert_eq!(judge(&[("config.toml", file)], release).status, Status::Ok);
    }
}

#[test]
fn where_drop_ins_are_imported_the_snippet_is_one() {
    let root = "version = 3\nimports = ['conf.d/*.toml']\n";
    let action = judge(&[("config.toml", root)], (2, 2)).action.unwrap();
    let (first, file) = action.split_once('\n').unwrap();
    assert!(first.contains("conf.d/cuddy.toml"), "{first}");
    let fixed = judge(&[("config.toml", root), ("conf.d/cuddy.toml", file)], (2, 2));
    assert_eq!(fixed.status, Status::Ok, "{fixed:?}");
}

#[test]
fn the_drop_ins_of_version_3_fit_a_main_file_of_version_4() {
    let main = "version = 4\nimports = ['conf.d/*.toml']\n\
        [plugins.'io.containerd.server.v1.grpc']\naddress = '/run/containerd/containerd.sock'\n";
    let check = judge(&[("config.toml", main), ("conf.d/cuddy.toml", V3)], (2, 4));
    assert_eq!(check.status, Status::Ok, "{check:?}");
    assert!(check.found.ends_with("conf.d/cuddy.toml"), "{}", check.found);
}

#[test]
fn a_section_that_the_version_ignores_is_pointed_out() {
    let wrong = V2.replace("version = 2", "version = 3");
    let check = judge(&[("config.toml", &wrong)], (2, 1));
    assert_eq!(check.status, Status::Warning);
    assert!(check.found.contains("ignores"), "{}", check.found);
}

#[test]
fn a_drop_in_newer_than_its_root_fails() {
    let root = "version = 2\nimports = ['a.toml']\n";
    let check = judge(&[("config.toml", root), ("a.toml", V3)], (2, 1));
    assert_eq!(check.status, Status::Failed);
}

#[test]
fn a_disabled_cri_plugin_is_pointed_out() {
    let check = judge(&[("config.toml", "disabled_plugins = ['cri']\n")], (1, 7));
    assert!(check.found.contains("disables the CRI plugin"), "{}", check.found);
}
