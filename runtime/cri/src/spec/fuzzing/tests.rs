use protocol::cri::{
    Device, IdMapping, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, Mount, NamespaceOption, PodSandboxConfig, SecurityProfile,
};

use super::*;

/// A request that has something of everything.
fn request() -> CreateContainerRequest {
    let context = LinuxContainerSecurityContext {
        capabilities: Some(protocol::cri::Capability {
            add_capabilities: vec!["ALL".to_owned()],
            ..Default::default()
        }),
        namespace_options: Some(NamespaceOption::default()),
        run_as_username: "web".to_owned(),
        supplemental_groups: vec![5],
        seccomp: Some(SecurityProfile::default()),
        ..LinuxContainerSecurityContext::default()
    };
    let resources = LinuxContainerResources {
        cpu_quota: 5,
        memory_limit_in_bytes: 7,
        unified: [("a.b".to_owned(), "c".to_owned())].into(),
        ..LinuxContainerResources::default()
    };
    let mount = Mount {
        container_path: "/a/b".to_owned(),
        host_path: "/h".to_owned(),
        uid_mappings: vec![IdMapping::default()],
        gid_mappings: vec![IdMapping::default()],
        ..Mount::default()
    };
    let image = Some(ImageSpec { image: "i".to_owned(), ..ImageSpec::default() });
    let volume =
        Mount { container_path: "/i".to_owned(), image, readonly: true, ..Mount::default() };
    let device = Device {
        host_path: "/dev/null".to_owned(),
        permissions: "r".to_owned(),
        ..Device::default()
    };
    let config = ContainerConfig {
        args: vec!["x".to_owned()],
        working_dir: "web:x:1:2:web\n".to_owned(),
        envs: vec![KeyValue { key: "K".to_owned(), value: b"v".to_vec() }],
        mounts: vec![mount, volume],
        devices: vec![device],
        linux: Some(LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(context),
        }),
        ..ContainerConfig::default()
    };
    let image = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
        "config":{"User":"7:8","Env":["A=1"],"Entrypoint":["/e"],"Volumes":{"/v":{}},"StopSignal":"9"}}"#;
    CreateContainerRequest {
        pod_sandbox_id: image.to_owned(),
        config: Some(config),
        sandbox_config: Some(PodSandboxConfig::default()),
    }
}

fn input(bits: u8, request: &CreateContainerRequest) -> Vec<u8> {
    [&[bits][..], &request.encode_to_vec()].concat()
}

#[test]
fn request_with_something_of_everything_holds() {
    let request = request();
    assert!(serde_json::from_str::<ImageConfiguration>(&request.pod_sandbox_id).is_ok());
    let made: usize = (0..=u8::MAX).map(|bits| run(&input(bits, &request))).sum();
    assert!(made > 200, "{made} configurations of 512");
}

/// The target is run by libFuzzer at length. This is a short walk by an own generator.
#[test]
fn changed_requests_hold() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let whole = input(0, &request());
    let mut made = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        bytes[0] = u8::try_from(random(256)).unwrap();
        for _ in 0..=random(4) {
            let at = 1 + random(bytes.len() - 1);
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        made += run(&bytes);
    }
    assert!(made > 1_000, "{made} configurations");
}

#[test]
#[should_panic(expected = "/etc/shadow")]
fn path_that_nobody_named_is_found() {
    let mut spec = Spec::default();
    let mut mount = oci_spec::runtime::Mount::default();
    mount.set_destination("/a".into()).set_source(Some("/etc/shadow".into()));
    spec.set_mounts(Some(vec![mount]));
    sources(&spec, &BTreeSet::new());
}
