//! The container that is run and deleted in a machine that is about to be saved. A guest's first
//! container costs more than the next one. The kernel patches its own code for what is used for the
//! first time, makes caches, and reads the agent's program. All that is part of what is saved then.
//!
//! The container is made as any other, from a configuration as containerd writes it. Its program is
//! the agent under another name, so that the guest's root file system holds nothing for it. It
//! draws no number that clones must not share: no socket is made, and `boot_id` is not read.

use std::fs::{create_dir_all, remove_dir_all};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent_api::types::Streams;
use oci_spec::runtime::Mount;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::oci::Spec;
use crate::sandbox::Sandbox;

/// The word by which the container's processes call the agent's program.
pub(crate) const NAME: &str = "cuddy-warm";

/// What makes such a process wait for its end.
const WAIT: &str = "wait";

/// The container's id. It is gone before anybody else may have one.
const ID: &str = "cuddy-warm";

/// Its configuration, but for the program's path.
const CONFIG: &str = include_str!("warm/config.json");

/// Runs the program of the container: to wait until it is killed, or to end at once.
pub(crate) fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == WAIT) {
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}

/// Runs and deletes the container. Nothing of it is left, whether it fails or not.
///
/// # Errors
/// It could not be made, a process of it failed, or something could not be removed.
pub(crate) async fn run(sandbox: Arc<Sandbox>) -> Result<()> {
    let _turn = sandbox.admission().warm()?;
    let program = std::env::current_exe().map_err(Error::io("find the agent's program"))?;
    let spec = spec(&program)?;
    let root = spec.root.path.clone();
    let doing = || format!("make {}", root.display());
    create_dir_all(&root).map_err(Error::io(doing()))?;
    let lived = live(&sandbox, spec).await;
    let removed = remove_dir_all(&root).map_err(Error::io(format!("remove {}", root.display())));
    lived.and(removed)
}

/// The configuration with the program of its processes in place.
fn spec(program: &Path) -> Result<Spec> {
    let invalid = |error| Error::Invalid(format!("configuration of the first container: {error}"));
    let mut spec: Spec = serde_json::from_str(CONFIG).map_err(invalid)?;
    for mount in spec.mounts.iter_mut().filter(|mount| is_program(mount)) {
        mount.set_source(Some(program.to_owned()));
    }
    Ok(spec)
}

fn is_program(mount: &Mount) -> bool {
    mount.destination() == &PathBuf::from("/").join(NAME)
}

async fn live(sandbox: &Arc<Sandbox>, spec: Spec) -> Result<()> {
    let process = spec.process.clone();
    Arc::clone(sandbox).create(ID.to_owned(), spec, Streams::default()).await?;
    let container = sandbox.container(ID)?;
    let worked = async {
        let init = container.process("")?;
        init.start().await?;
        let mut exec = process.unwrap_or_default();
        exec.args.retain(|word| word != WAIT);
        container.add_exec(ID, exec, Streams::default())?;
        container.start_exec(ID, sandbox.reaper(), sandbox.streams()).await?;
        let exit = container.process(ID)?.wait().await;
        container.delete_exec(ID)?;
        if exit.status == 0 { Ok(()) } else { Err(Error::State("the first exec has failed")) }
    };
    let worked = worked.await;
    let ended = end(&container).await;
    let deleted = sandbox.delete(ID).await;
    worked.and(ended).and(deleted)
}

/// Kills what runs and waits for its end, as a container must before it is deleted.
async fn end(container: &Container) -> Result<()> {
    container.signal_all(libc::SIGKILL)?;
    let init = container.process("")?;
    if init.has_started() {
        init.wait().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::compile_seccomp;
    use crate::oci::NamespaceType;

    #[test]
    fn its_configuration_is_that_of_a_simple_container() {
        let program = PathBuf::from("/proc/1/exe");
        let spec = spec(&program).unwrap();
        assert!(spec.root.path.starts_with(agent_api::STATE_DIR));
        let process = spec.process.as_ref().unwrap();
        assert_eq!(process.args, [NAME, WAIT]);
        assert!(spec.mounts.iter().any(|mount| mount.source().as_ref() == Some(&program)));
        assert!(spec.linux.namespace(NamespaceType::Network).is_none(), "a network of its own");
        for kind in [NamespaceType::Pid, NamespaceType::Mount, NamespaceType::Cgroup] {
            assert!(spec.linux.is_new(kind), "{kind:?}");
        }
        assert!(spec.linux.sysctl.is_empty());
        compile_seccomp(spec.linux.seccomp.as_ref().unwrap()).unwrap();
        assert_eq!(spec.left_out().unwrap(), Vec::<String>::new());
    }
}
