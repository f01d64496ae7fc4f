//! RuntimeConfig: which cgroup driver a kubelet has to have.

use std::sync::Arc;

use protocol::cri::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse,
};
use tonic::Request;

use crate::facts;
use crate::fault::Fault;
use crate::pods::Pods;
use crate::spec;

pub(super) async fn run(
    pods: &Arc<Pods>,
    _: Request<RuntimeConfigRequest>,
) -> Result<RuntimeConfigResponse, Fault> {
    let driver = match facts::cgroup_driver(&pods.node.settings) {
        spec::CgroupDriver::Systemd => CgroupDriver::Systemd,
        spec::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
    };
    let linux = Some(LinuxRuntimeConfiguration { cgroup_driver: driver.into() });
    Ok(RuntimeConfigResponse { linux })
}
