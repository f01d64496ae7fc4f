//! Sandbox.Configure.

use std::sync::Arc;

use agent_api::SHARE_DIR;
use agent_api::sandbox::ConfigureRequest;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::cgroup;
use crate::clock;
use crate::cpus;
use crate::error::{Error, Result};
use crate::init;
use crate::sandbox::Sandbox;
use crate::sys::random;
use crate::window::Window;

/// Fewer bytes would leave the generator of a clone guessable.
const MIN_ENTROPY: usize = 32;

/// Configures the guest. Only what has been done whole opens it.
pub(super) async fn run(sandbox: Arc<Sandbox>, request: ConfigureRequest) -> Result<()> {
    let turn = sandbox.admission().configure()?;
    let work = tokio::task::spawn_blocking(move || configure(&request)).await;
    work.map_err(Error::io("configure the guest"))??;
    turn.configured();
    tokio::spawn(clock::follow());
    Ok(())
}

fn configure(request: &ConfigureRequest) -> Result<()> {
    if request.entropy.len() < MIN_ENTROPY {
        return Err(Error::Invalid(format!("entropy: fewer than {MIN_ENTROPY} bytes")));
    }
    random::credit(&request.entropy).map_err(Error::io("seed the random number generator"))?;
    clock::set(request.clock_unix_ns).map_err(Error::io("set the clock"))?;
    if !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes())
            .map_err(Error::io("set the hostname"))?;
    }
    if request.online_cpus > 0 {
        cpus::set_online(request.online_cpus)?;
    }
    let sysctls = request.sysctls.iter().map(|(name, value)| (name.clone(), value.clone()));
    init::set_sysctls(&sysctls.collect()).map_err(|failure| Error::Invalid(failure.message))?;
    if request.memory_limit_bytes > 0 {
        cgroup::limit_pod(request.memory_limit_bytes)?;
    }
    match (request.share_tag.as_str(), request.share_window) {
        ("", None) => Ok(()),
        ("", Some(_)) => Err(Error::Invalid("a window of a share without a tag".to_owned())),
        (tag, None) => mount_share(tag),
        (tag, Some(window)) => bind_share(tag, Window::new(window)?),
    }
}

/// Mounts the share of a window that was empty when the kernel booted.
fn bind_share(tag: &str, window: Window) -> Result<()> {
    window.bind_share()?;
    mount_share(tag).inspect_err(|_| {
        if let Err(error) = window.unbind() {
            log::warn!("{error}");
        }
    })
}

fn mount_share(tag: &str) -> Result<()> {
    let failed = || format!("mount share {tag:?}");
    std::fs::create_dir_all(SHARE_DIR).map_err(Error::io(failed()))?;
    mount(tag, SHARE_DIR, "virtiofs", MountFlags::empty(), None).map_err(Error::io(failed()))?;
    // Later mounts of the host below it appear in containers that ask for it.
    mount_change(SHARE_DIR, MountPropagationFlags::SHARED).map_err(Error::io(failed()))
}
