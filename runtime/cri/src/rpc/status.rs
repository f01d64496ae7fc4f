//! Status: whether the node can run pods, and what its handlers can do.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::cri::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
    StatusRequest, StatusResponse,
};
use serde_json::json;
use tonic::Request;

use crate::classes::Class;
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<StatusRequest>,
) -> Result<StatusResponse, Fault> {
    let network = pods.node.network.readiness().await;
    let conditions = vec![
        RuntimeCondition { r#type: "RuntimeReady".into(), status: true, ..Default::default() },
        RuntimeCondition {
            r#type: "NetworkReady".into(),
            status: network.is_ready,
            reason: network.reason.into(),
            message: network.message,
        },
    ];
    let info = match request.get_ref().verbose {
        true => [("config".to_owned(), json!(pods.node.settings).to_string())].into(),
        false => HashMap::new(),
    };
    Ok(StatusResponse {
        status: Some(RuntimeStatus { conditions }),
        info,
        runtime_handlers: handlers(pods),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            ..RuntimeFeatures::default()
        }),
    })
}

/// The handlers by their names; ours has none, too.
fn handlers(pods: &Pods) -> Vec<RuntimeHandler> {
    let handler = |name: &str, class: &Class| {
        let features = RuntimeHandlerFeatures {
            recursive_read_only_mounts: class.handler.recursive_read_only,
            user_namespaces: class.handler.user_namespaces,
        };
        RuntimeHandler { name: name.to_owned(), features: Some(features) }
    };
    let mut all = Vec::new();
    for class in pods.node.classes.iter() {
        if class.is_own() {
            all.push(handler("", class));
        }
        all.push(handler(&class.name, class));
    }
    all
}
