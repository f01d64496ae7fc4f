//! Generates the messages of `proto/`, without protoc.

use std::path::Path;

use ttrpc_codegen::{Codegen, ProtobufCustomize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = std::env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out)
        .inputs(["proto/pod.proto"])
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true))
        .run()?;
    // `include!` takes no inner attributes, which the generator puts on top of its module list.
    let list = Path::new(&out).join("mod.rs");
    let modules = std::fs::read_to_string(&list)?;
    let modules: Vec<_> = modules.lines().filter(|line| !line.starts_with("#!")).collect();
    std::fs::write(&list, modules.join("\n"))?;
    Ok(())
}
