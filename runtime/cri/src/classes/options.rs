//! What a foreign shim is told with each start and each container: messages of containerd's.

use prost::Message;
use shim_client::Any;

use crate::settings::{ShimOptions, ShimSettings};
use crate::spec::CgroupDriver;

/// How types of runtimes begin whose options are runc's, and names of their binaries.
const RUNC: [&str; 2] = ["io.containerd.runc.", "containerd-shim-runc-"];

/// `containerd.runc.v1.Options`.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(bool, tag = "1")]
    no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    no_new_keyring: bool,
    #[prost(string, tag = "3")]
    shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    io_uid: u32,
    #[prost(uint32, tag = "5")]
    io_gid: u32,
    #[prost(string, tag = "6")]
    binary_name: String,
    #[prost(string, tag = "7")]
    root: String,
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    criu_image_path: String,
    #[prost(string, tag = "11")]
    criu_work_path: String,
}

/// `runtimeoptions.v1.Options`.
#[derive(Clone, PartialEq, prost::Message)]
struct OtherOptions {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
}

/// The message for a handler whose cgroups `driver` makes (pure).
pub(super) fn any(handler: &ShimSettings, driver: CgroupDriver) -> Any {
    let options = handler.options.clone();
    let text = Option::unwrap_or_default;
    let name = handler.runtime_type.rsplit('/').next().unwrap_or_default();
    if !RUNC.iter().any(|begin| name.starts_with(begin)) {
        let ShimOptions { type_url, config_path, .. } = options;
        let message = OtherOptions { type_url: text(type_url), config_path: text(config_path) };
        return of("runtimeoptions.v1.Options", &message);
    }
    let message = RuncOptions {
        no_pivot_root: options.no_pivot_root.unwrap_or_default(),
        no_new_keyring: options.no_new_keyring.unwrap_or_default(),
        shim_cgroup: text(options.shim_cgroup),
        io_uid: options.io_uid.unwrap_or_default(),
        io_gid: options.io_gid.unwrap_or_default(),
        binary_name: text(options.binary_name),
        root: text(options.root),
        systemd_cgroup: driver == CgroupDriver::Systemd,
        criu_image_path: text(options.criu_image_path),
        criu_work_path: text(options.criu_work_path),
    };
    of("containerd.runc.v1.Options", &message)
}

fn of(kind: &str, message: &impl Message) -> Any {
    Any { type_url: kind.to_owned(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(runtime_type: &str, options: ShimOptions) -> ShimSettings {
        let (pod_annotations, container_annotations) = Default::default();
        let runtime_type = runtime_type.to_owned();
        ShimSettings { runtime_type, options, pod_annotations, container_annotations }
    }

    #[test]
    fn runc_is_told_who_makes_cgroups() {
        let own = ShimOptions { binary_name: Some("crun".into()), ..ShimOptions::default() };
        let any = any(&handler("io.containerd.runc.v2", own), CgroupDriver::Systemd);
        assert_eq!(any.type_url, "containerd.runc.v1.Options");
        // Fields 6 and 9, by the wire format.
        assert_eq!(any.value, [0x32, 4, b'c', b'r', b'u', b'n', 0x48, 1]);
    }

    #[test]
    fn shim_of_runc_is_known_by_its_path_as_well() {
        let by_path = handler("/opt/bin/containerd-shim-runc-v2", ShimOptions::default());
        let told = any(&by_path, CgroupDriver::Cgroupfs);
        assert_eq!((told.type_url.as_str(), told.value.len()), ("containerd.runc.v1.Options", 0));
    }

    #[test]
    fn others_are_told_their_file() {
        let own = ShimOptions { config_path: Some("/k".into()), ..ShimOptions::default() };
        let any = any(&handler("io.containerd.kata.v2", own), CgroupDriver::Systemd);
        assert_eq!(any.type_url, "runtimeoptions.v1.Options");
        assert_eq!(any.value, [0x12, 2, b'/', b'k']);
    }
}
