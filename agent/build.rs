//! Makes tables sorted by name of the kernel's lists of system calls (`src/init/seccomp`).

use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::var("OUT_DIR")?;
    for architecture in ["x86_64", "i386"] {
        let list = format!("src/init/seccomp/{architecture}.syscalls");
        println!("cargo:rerun-if-changed={list}");
        let text = std::fs::read_to_string(list)?;
        let mut calls: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        calls.sort_unstable();
        let mut table = "[\n".to_owned();
        for (name, number) in calls {
            writeln!(table, "    ({name:?}, {number}),")?;
        }
        table.push(']');
        std::fs::write(Path::new(&out).join(format!("{architecture}.rs")), table)?;
    }
    Ok(())
}
