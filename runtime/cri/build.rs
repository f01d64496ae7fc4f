//! Generates the server of the container runtime interface and of our own service, without protoc.
//! The messages are those of the crate `protocol`.

const PROTO: &str = "../protocol/proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["cri", "node"].map(|name| format!("{PROTO}/{name}.proto"));
    files.iter().for_each(|file| println!("cargo:rerun-if-changed={file}"));
    let files = protox::compile(files, [PROTO])?;
    let messages = tonic_prost_build::configure()
        .extern_path(".runtime.v1", "::protocol::cri")
        .extern_path(".cuddy.node.v1", "::protocol::node");
    messages.build_client(false).compile_fds(files)?;
    Ok(())
}
