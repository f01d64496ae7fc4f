//! Compiles the seccomp filters in `seccomp/*.json` to BPF, one per kind of thread.
//!
//! A filter is what its own file and `any-thread.json` allow. A new thread inherits its maker's
//! filter. The control thread's filter therefore allows what the workers do that it makes. The
//! share's and the socket device's workers are made at boot only, before that filter is in place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use seccompiler::TargetArch;
use serde_json::{Value, json};

/// Filter names and the files that they are made of.
const FILTERS: &[(&str, &[&str])] = &[
    ("VCPU", &["any-thread", "vcpu"]),
    ("RNG", &["any-thread", "worker", "rng"]),
    ("BLOCK", &["any-thread", "worker", "block"]),
    ("VSOCK", &["any-thread", "worker", "vsock"]),
    ("FS", &["any-thread", "worker", "fs"]),
    ("CONSOLE", &["any-thread", "worker", "console"]),
    ("NET", &["any-thread", "worker", "net"]),
    ("CONTROL", &["any-thread", "control", "worker", "rng", "block", "console", "net"]),
];

/// Stands in a rule for the number of the process that installs the filter.
const OWN_PROCESS: &str = "own process";

/// What a compiled filter has in its place; no argument of any other rule.
const PLACEHOLDER: u32 = 0x7e57_91d0;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=seccomp");
    let mut source = String::new();
    for (name, files) in FILTERS {
        let program = compile(files).with_context(|| format!("seccomp filter {name}"))?;
        write_program(&mut source, name, &program)?;
    }
    write_program(&mut source, "NO_CLONE3", &no_clone3()?)?;
    writeln!(source, "pub(super) const OWN_PROCESS: u32 = {PLACEHOLDER};")?;
    let directory = std::env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    std::fs::write(PathBuf::from(directory).join("filters.rs"), source)?;
    Ok(())
}

fn write_program(source: &mut String, name: &str, program: &[Line]) -> Result<()> {
    writeln!(source, "pub(super) const {name}: &[sock_filter] = &[")?;
    for (code, jt, jf, k) in program {
        writeln!(source, "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},")?;
    }
    writeln!(source, "];")?;
    Ok(())
}

/// One BPF instruction.
type Line = (u16, u8, u8, u32);

/// A filter that makes `clone3` look missing. Its flags are out of a filter's sight, so that it
/// could make processes; the C library then takes `clone`, whose flags a filter can check.
fn no_clone3() -> Result<Vec<Line>> {
    const ENOSYS: u32 = 38;
    program(&json!({
        "mismatch_action": "allow",
        "match_action": { "errno": ENOSYS },
        "filter": [ { "syscall": "clone3" } ],
    }))
}

/// The BPF program that allows what `files` list and kills the process for all else.
fn compile(files: &[&str]) -> Result<Vec<Line>> {
    let mut rules: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for file in files {
        let path = Path::new("seccomp").join(file).with_extension("json");
        for rule in read(&path).with_context(|| path.display().to_string())? {
            let syscall = rule["syscall"].as_str().context("rule without a syscall")?.to_owned();
            rules.entry(syscall).or_default().push(rule);
        }
    }
    // A rule without conditions makes the others for the same call void.
    let filter: Vec<Value> = rules
        .into_values()
        .flat_map(|rules| match rules.iter().find(|rule| rule.get("args").is_none()) {
            Some(unconditional) => vec![unconditional.clone()],
            None => rules,
        })
        .collect();
    program(&json!({
        "mismatch_action": "kill_process",
        "match_action": "allow",
        "filter": filter,
    }))
}

fn program(filter: &Value) -> Result<Vec<Line>> {
    let text = json!({ "filter": filter }).to_string();
    let arch = TargetArch::try_from(std::env::var("CARGO_CFG_TARGET_ARCH")?.as_str())?;
    let mut programs = seccompiler::compile_from_json(text.as_bytes(), arch)?;
    let program = programs.remove("filter").context("no program")?;
    Ok(program.iter().map(|line| (line.code, line.jt, line.jf, line.k)).collect())
}

/// The rules of one file, each of which must say why it is there.
fn read(path: &Path) -> Result<Vec<Value>> {
    let mut rules: Vec<Value> = serde_json::from_slice(&std::fs::read(path)?)?;
    for rule in &mut rules {
        let arguments = rule.get_mut("args").and_then(Value::as_array_mut);
        for argument in arguments.into_iter().flatten() {
            ensure!(argument["val"] != PLACEHOLDER, "{PLACEHOLDER} stands for {OWN_PROCESS:?}");
            if argument["val"] == OWN_PROCESS {
                argument["val"] = PLACEHOLDER.into();
            }
        }
        let reason = rule["comment"].as_str().unwrap_or_default();
        ensure!(!reason.is_empty(), "rule for {} has no comment", rule["syscall"]);
    }
    Ok(rules)
}
