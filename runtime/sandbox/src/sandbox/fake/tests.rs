//! Whole lives of containers without a machine.

mod ends;
mod output;
mod verbs;

use super::*;

/// A container "web" that was made, and runs if it is to be `started`.
async fn container(stage: &Stage, started: bool) {
    stage.sandbox.create(stage.request("web")).await.unwrap();
    if started {
        stage.sandbox.start_process(target("web", None)).await.unwrap();
    }
}

/// An exec "e" of it that runs.
async fn exec(stage: &Stage, stdio: StdioPaths) {
    let process = serde_json::json!({"args": ["true"], "cwd": "/"});
    let request = ExecRequest { target: target("web", Some("e")), process, stdio };
    stage.sandbox.exec(request).await.unwrap();
}
