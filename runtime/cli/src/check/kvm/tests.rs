use super::super::Status;
use super::*;

#[test]
fn a_missing_device_is_explained_by_the_processor() {
    let intel = not_opened(libc::ENOENT, "flags\t\t: fpu vmx sse\n");
    assert!(intel.action.unwrap().contains("modprobe kvm_intel"));
    let amd = not_opened(libc::ENOENT, "processor : 0\nflags : fpu svm\n");
    assert!(amd.action.unwrap().contains("modprobe kvm_amd"));
    let none = not_opened(libc::ENOENT, "flags : fpu vmx_like\n");
    assert!(none.found.contains("neither VMX nor SVM"), "{}", none.found);
    assert!(none.action.unwrap().contains("lab"));
}

#[test]
fn a_closed_device_asks_for_rights() {
    let check = not_opened(libc::EACCES, "");
    assert_eq!(check.status, Status::Failed);
    assert!(check.action.unwrap().contains("root"));
}

#[test]
fn a_device_that_is_something_else_is_told_from_kvm() {
    assert!(evaluate(-1, &["irqfd"]).found.contains("is not KVM"));
    assert!(evaluate(11, &[]).found.contains("version 11"));
}

#[test]
fn missing_capabilities_are_named() {
    let check = evaluate(12, &["irqfd", "ioeventfd"]);
    assert_eq!(check.status, Status::Failed);
    assert!(check.found.ends_with("lacks: irqfd, ioeventfd"), "{}", check.found);
    assert_eq!(evaluate(12, &[]).status, Status::Ok);
}

#[test]
fn a_refused_machine_says_which_step_and_why_once() {
    let check = judge(Err(ProbeError::Prepare(std::io::Error::from_raw_os_error(libc::ENOMEM))));
    assert_eq!(check.status, Status::Failed);
    assert_eq!(check.found.matches("memory").count(), 1, "{}", check.found);
}
