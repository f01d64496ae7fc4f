//! Rust of ttrpc services and their messages, without protoc: a part of the build scripts of this
//! crate and of `runtime/protocol`.

use std::error::Error;
use std::path::PathBuf;

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// Nobody reads generated code, and it follows other rules.
const EXCEPTIONS: &str = r#"#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]"#;

/// Writes `services.rs` for `include!`: a module `generated` that has one for the messages and one
/// for the services of each of these files in `proto/`.
///
/// # Errors
/// What the generator or the filesystem answered.
pub(crate) fn services(names: &[&str]) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let folder = out.join("generated");
    std::fs::create_dir_all(&folder)?;
    Codegen::new()
        .out_dir(&folder)
        .inputs(names.iter().map(|name| format!("proto/{name}.proto")))
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true))
        .customize(Customize { async_all: true, gen_mod: true, ..Customize::default() })
        .run()?;
    // `include!` takes no inner attributes, which the generator puts on top of its module list.
    let list = std::fs::read_to_string(folder.join("mod.rs"))?;
    let modules: Vec<_> = list.lines().filter(|line| !line.starts_with("#!")).collect();
    let text = format!("{EXCEPTIONS}\nmod generated {{\n{}\n}}\n", modules.join("\n"));
    Ok(std::fs::write(out.join("services.rs"), text)?)
}
