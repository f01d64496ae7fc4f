//! Generates messages and services from `proto/`, without protoc.

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// One file per service: the generator names a method's type after the method alone.
const FILES: [&str; 6] = ["types", "health", "sandbox", "container", "process", "storage"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    Codegen::new()
        .out_dir(std::env::var("OUT_DIR")?)
        .inputs(FILES.map(|name| format!("proto/{name}.proto")))
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true))
        .customize(Customize { async_all: true, gen_mod: true, ..Customize::default() })
        .run()?;
    Ok(())
}
