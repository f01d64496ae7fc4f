//! Generates messages and services from `proto/`, without protoc.

use std::path::Path;

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// What containerd says to a shim and the crate `containerd-shim-protos` does not know.
const CONTAINERD: [&str; 2] = ["bootstrap", "update"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let cri = protox::compile(["proto/cri.proto"], ["proto"])?;
    prost_build::compile_fds(cri)?;
    let out = std::env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out)
        .inputs(CONTAINERD.map(|name| format!("proto/{name}.proto")))
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true))
        .customize(Customize { async_all: true, gen_mod: true, ..Customize::default() })
        .run()?;
    // `include!` takes no inner attributes, which the generator puts on top of its module list.
    let list = Path::new(&out).join("mod.rs");
    let modules = std::fs::read_to_string(&list)?;
    let modules: Vec<_> = modules.lines().filter(|line| !line.starts_with("#!")).collect();
    std::fs::write(&list, modules.join("\n"))?;
    Ok(())
}
