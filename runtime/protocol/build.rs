//! Generates messages and services from `proto/`, without protoc.

#[path = "../../agent/api/generate.rs"]
mod generate;

/// What containerd says to a shim and the crate `containerd-shim-protos` does not know, and what
/// only our own shim is asked for.
const OF_SHIMS: [&str; 3] = ["bootstrap", "shim", "update"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages = protox::compile(["proto/cri.proto", "proto/node.proto"], ["proto"])?;
    prost_build::compile_fds(messages)?;
    generate::services(&OF_SHIMS)
}
