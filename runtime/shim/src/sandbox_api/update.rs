//! `UpdateSandbox`: containerd 2.4 and later knows something new of a pod. Of that, resources
//! concern its machine; they go the way of the Task service's `Update` of a sandbox container, as
//! older versions ask for it. All else needs nothing here.

use api::Error;
use async_trait::async_trait;
use oci_spec::runtime::{LinuxCpu, LinuxMemory};
use protocol::update::{UpdateSandboxRequest, UpdateSandboxResponse};
use protocol::update_ttrpc::Sandbox as UpdateRpc;
use serde_json::{Value, json};
use ttrpc::Result as RpcResult;
use ttrpc::r#async::TtrpcContext;

use super::SandboxService;
use crate::error::status;

/// Under this name containerd's CRI plugin adds a pod's new resources.
const RESOURCES: &str = "updated-resources";

#[async_trait]
impl UpdateRpc for SandboxService {
    async fn update_sandbox(
        &self,
        _: &TtrpcContext,
        request: UpdateSandboxRequest,
    ) -> RpcResult<UpdateSandboxResponse> {
        // Also says that there is no such pod.
        self.view(&request.sandbox_id).await?;
        if let Some(resources) = resources(&request).map_err(status)? {
            let pod = self.pod(&request.sandbox_id)?.container;
            self.sandbox.update(pod, resources).await.map_err(status)?;
        }
        Ok(UpdateSandboxResponse::default())
    }
}

/// The pod's resources as OCI has them, if the request holds any (pure).
fn resources(request: &UpdateSandboxRequest) -> Result<Option<Value>, Error> {
    let Some(found) = request.sandbox.extensions.get(RESOURCES) else { return Ok(None) };
    let found: Value = serde_json::from_slice(&found.value)
        .map_err(|error| Error::Invalid(format!("{RESOURCES} of the sandbox: {error}")))?;
    let Some(asked) = found.get("Resources").filter(|asked| !asked.is_null()) else {
        return Ok(None);
    };
    // Absent and 0 mean the same: no limit is said.
    let number = |key: &str| asked.get(key).and_then(Value::as_i64).filter(|&number| number != 0);
    let positive = |key| number(key).and_then(|number| u64::try_from(number).ok());
    let (mut cpu, mut memory) = (LinuxCpu::default(), LinuxMemory::default());
    cpu.set_period(positive("cpu_period")).set_quota(number("cpu_quota"));
    cpu.set_shares(positive("cpu_shares"));
    memory.set_limit(number("memory_limit_in_bytes"));
    Ok(Some(json!({"cpu": cpu, "memory": memory})))
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;

    /// Bytes as containerd writes them: sandbox (4) → extensions (7) → name (1) and value (2).
    fn asked(json: &str) -> UpdateSandboxRequest {
        let field = |number: u8, bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap();
            let [low, high] = [length & 0x7f | 0x80, length >> 7].map(|part| part.to_le_bytes()[0]);
            [&[number << 3 | 2, low, high], bytes].concat()
        };
        let any = [field(1, b"io.containerd.cri.v1/UpdatedResources"), field(2, json.as_bytes())];
        let entry = [field(1, RESOURCES.as_bytes()), field(2, &any.concat())].concat();
        let request = [field(1, b"web"), field(4, &field(7, &entry)), field(5, b"extensions")];
        UpdateSandboxRequest::parse_from_bytes(&request.concat()).unwrap()
    }

    #[test]
    fn resources_are_found_among_what_is_new() {
        let request =
            asked(r#"{"Overhead":null,"Resources":{"cpu_quota":5,"memory_limit_in_bytes":7}}"#);
        assert_eq!((request.sandbox_id.as_str(), request.fields.len()), ("web", 1));
        let expected = json!({"cpu": {"quota": 5}, "memory": {"limit": 7}});
        assert_eq!(resources(&request).unwrap(), Some(expected));
        assert_eq!(resources(&UpdateSandboxRequest::default()).unwrap(), None);
        assert_eq!(resources(&asked(r#"{"Resources":null}"#)).unwrap(), None);
        let error = resources(&asked("?")).unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains(RESOURCES)), "{error}");
    }
}
