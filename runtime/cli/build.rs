//! Generates the client of the container runtime interface, whose messages are those of the crate
//! `protocol`, without protoc.

const PROTO: &str = "../protocol/proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}/cri.proto");
    let files = protox::compile([format!("{PROTO}/cri.proto")], [PROTO])?;
    let messages = tonic_prost_build::configure().extern_path(".runtime.v1", "::protocol::cri");
    messages.build_server(false).compile_fds(files)?;
    Ok(())
}
