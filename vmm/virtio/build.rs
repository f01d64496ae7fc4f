//! This script has the file server's library linked with the archive of libcap-ng. The library asks
//! for libcap-ng by a name for which a linker prefers a shared library. Every binary of this tree
//! is static.

use std::error::Error;
use std::path::Path;
use std::process::Command;

const ARCHIVE: &str = "libcap-ng.a";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let told = Command::new("gcc").arg(format!("-print-file-name={ARCHIVE}")).output()?;
    let archive = String::from_utf8(told.stdout)?;
    let archive = Path::new(archive.trim());
    // The compiler answers with a path only for what it has.
    if !archive.is_absolute() {
        return Err(format!("no {ARCHIVE}: run vmm/packages, or install libcap-ng-dev").into());
    }
    let alone = std::env::var("OUT_DIR")?;
    std::fs::copy(archive, Path::new(&alone).join(ARCHIVE))?;
    println!("cargo::rustc-link-search=native={alone}");
    Ok(())
}
