//! Compiles the seccomp filters in `seccomp/` to BPF, one per kind of thread, and names the build.
//!
//! A filter is what its own file and `any-thread.json` allow, a device's also what `worker.json`
//! does. A device's file bears the name of its thread. A new thread inherits its maker's filter.
//! The control thread's filter therefore allows what the workers do that it makes: those of
//! `seccomp/devices`. Those of `seccomp/boot-devices` are made at boot only, before that filter is
//! in place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use seccompiler::TargetArch;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Rules of devices that can be attached to a running machine, and of those that can't.
const DEVICES: &str = "seccomp/devices";
const BOOT_DEVICES: &str = "seccomp/boot-devices";

/// What every thread may do, and every device's.
const ANY: &str = "seccomp/any-thread.json";
const WORKER: &str = "seccomp/worker.json";

/// What the threads of a machine that is to be saved may do besides.
const TO_BE_SAVED: &str = "seccomp/to-be-saved";

/// Stands in a rule for the number of the process that installs the filter.
const OWN_PROCESS: &str = "own process";

/// What a compiled filter has in its place; no argument of any other rule.
const PLACEHOLDER: u32 = 0x7e57_91d0;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=seccomp");
    let attachable = rules_in(DEVICES)?;
    let mut control: Vec<_> = [ANY, WORKER, "seccomp/control.json"].map(PathBuf::from).into();
    control.extend(attachable.iter().cloned());
    let mut source = String::new();
    let vcpu = [ANY, "seccomp/vcpu.json"].map(PathBuf::from).to_vec();
    write_program(&mut source, "CONTROL", &compile(&control)?)?;
    write_program(&mut source, "VCPU", &compile(&vcpu)?)?;
    for (name, mut rules, more) in
        [("CONTROL_TO_BE_SAVED", control, "control.json"), ("VCPU_TO_BE_SAVED", vcpu, "vcpu.json")]
    {
        rules.push(Path::new(TO_BE_SAVED).join(more));
        write_program(&mut source, name, &compile(&rules)?)?;
    }
    write_program(&mut source, "NO_CLONE3", &no_clone3()?)?;
    writeln!(source, "pub(super) const DEVICES: &[(&str, &[sock_filter])] = &[")?;
    for own in attachable.into_iter().chain(rules_in(BOOT_DEVICES)?) {
        let name = own.file_stem().context("file without a name")?.to_owned();
        let program = compile(&[ANY.into(), WORKER.into(), own])?;
        write!(source, "({name:?}, ")?;
        write_lines(&mut source, &program)?;
        writeln!(source, "),")?;
    }
    writeln!(source, "];")?;
    writeln!(source, "pub(super) const OWN_PROCESS: u32 = {PLACEHOLDER};")?;
    let directory = PathBuf::from(std::env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    std::fs::write(directory.join("filters.rs"), source)?;
    std::fs::write(directory.join("build-id"), build_id()?)?;
    Ok(())
}

/// What makes a VMM: the sources of its crates, and the versions of all libraries.
const SOURCES: &[&str] = &[
    "../Cargo.lock",
    "../Cargo.toml",
    "Cargo.toml",
    "api/Cargo.toml",
    "api/src",
    "build.rs",
    "guest-io/Cargo.toml",
    "guest-io/src",
    "seccomp",
    "src",
    "virtio/Cargo.toml",
    "virtio/src",
];

/// A digest that changes with everything that may change what a saved machine means. The same
/// sources have the same one, wherever and however they are built. A digest of the program itself
/// would have to be taken at each start, of megabytes.
fn build_id() -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        add_to(&mut hash, Path::new(source)).with_context(|| (*source).to_owned())?;
    }
    Ok(hash.finalize().into())
}

/// Adds a file, or all files of a folder in the order of their names.
fn add_to(hash: &mut Sha256, path: &Path) -> Result<()> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
        let mut inside = entries.collect::<Result<Vec<_>, std::io::Error>>()?;
        inside.sort();
        return inside.iter().try_for_each(|path| add_to(hash, path));
    }
    let content = std::fs::read(path)?;
    // With the lengths no other names and contents make the same bytes.
    for part in [path.as_os_str().as_encoded_bytes(), &content] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    Ok(())
}

fn write_program(source: &mut String, name: &str, program: &[Line]) -> Result<()> {
    write!(source, "pub(super) const {name}: &[sock_filter] = ")?;
    write_lines(source, program)?;
    writeln!(source, ";")?;
    Ok(())
}

fn write_lines(source: &mut String, program: &[Line]) -> Result<()> {
    writeln!(source, "&[")?;
    for (code, jt, jf, k) in program {
        writeln!(source, "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},")?;
    }
    write!(source, "]")?;
    Ok(())
}

/// The rule files of a folder, in the order of their names.
fn rules_in(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.to_owned())?;
    let mut files =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.sort();
    Ok(files)
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
fn compile(files: &[PathBuf]) -> Result<Vec<Line>> {
    let mut rules: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for file in files {
        for rule in read(file).with_context(|| file.display().to_string())? {
            let syscall = rule["syscall"].as_str().context("rule without a syscall")?.to_owned();
            rules.entry(syscall).or_default().push(rule);
        }
    }
    let bodies = rules.into_values().map(|rules| {
        // A rule without conditions makes the others for the same call void.
        let filter = match rules.iter().find(|rule| rule.get("args").is_none()) {
            Some(unconditional) => vec![unconditional.clone()],
            None => rules,
        };
        program(&json!({
            "mismatch_action": "kill_process",
            "match_action": "allow",
            "filter": filter,
        }))
    });
    join(bodies.collect::<Result<_>>()?)
}

/// Lines with which each program of seccompiler begins: they end the process under another
/// architecture, and load the number of the call.
const HEAD: usize = 4;

/// One program of those for one system call each. The kernel tries a filter with every call there is
/// as it is installed, so that a row of comparisons would be most of the cost of a thread's start.
fn join(programs: Vec<Vec<Line>>) -> Result<Vec<Line>> {
    let mut joined = programs.first().context("no rules")?.get(..HEAD).context("no head")?.to_vec();
    let mut calls = Vec::new();
    for program in programs {
        let (head, body) = program.split_at_checked(HEAD).context("no head")?;
        ensure!(head == joined, "programs of seccompiler begin otherwise than was known");
        let &(code, _, _, number) = body.first().context("no body")?;
        ensure!(code == EQUAL, "a program of seccompiler does not begin with a comparison");
        calls.push((number, body.to_vec()));
    }
    calls.sort();
    joined.extend(tree(&calls)?);
    Ok(joined)
}

/// `if A == k`, `if A >= k`, and a jump whose length has 32 bits (linux/bpf_common.h).
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;

/// The bodies below a choice by the call's number, in their order. Each compares for itself.
fn tree(calls: &[(u32, Vec<Line>)]) -> Result<Vec<Line>> {
    if let [(_, body)] = calls {
        return Ok(body.clone());
    }
    let (low, high) = calls.split_at(calls.len() / 2);
    let left = tree(low)?;
    let mut lines = vec![(AT_LEAST, 0, 1, high[0].0), (JUMP, 0, 0, u32::try_from(left.len())?)];
    lines.extend(left);
    lines.extend(tree(high)?);
    Ok(lines)
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
