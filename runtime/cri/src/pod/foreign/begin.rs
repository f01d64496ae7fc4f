//! The beginning of a foreign pod: its files, its companion, its shim, and its sandbox container.

use std::io;
use std::path::Path;

use api::request::{CreateRequest, StdioPaths};
use oci_spec::image::{ConfigBuilder, ImageConfiguration};
use oci_spec::runtime::Root;
use protocol::cri::{LinuxContainerSecurityContext, PodSandboxConfig};
use shim_client::Shim;

use super::outputs;
use crate::fault::Fault;
use crate::foreign::{Programs, files};
use crate::ids;
use crate::node::Node;
use crate::pod::site::Site;
use crate::row;
use crate::spec::{self, ContainerSpec, PodPaths, SandboxInput};

/// What is said of the image of a sandbox container: there is none.
const IMAGE: &str = "cuddy-pause";

/// Starts the pod's shim and creates its sandbox container. Its network need not be there yet, but
/// its network namespace.
///
/// # Errors
/// What of the pod can't be made, or what the shim said.
pub(in crate::pod) async fn begin(site: &Site, pod: &row::Pod) -> Result<Shim, Fault> {
    let bundle = site.bundle();
    match tokio::fs::create_dir(&bundle).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Fault::Internal(format!("making {}: {error}", bundle.display())));
        }
        _ => {}
    }
    let config = pod.config.clone().unwrap_or_default();
    let facts = super::input::facts(site);
    let paths = files::make(&bundle, &config, &facts.hostname).await?;
    let made = sandbox(site, pod, &config, &paths, &facts).await?;
    for note in &made.notes {
        log::info!("pod {}: {note}", site.id);
    }
    write(&bundle, &made).await?;
    outputs::ensure(site).await?;
    let id = ids::of_container(&site.id)?;
    let options = site.class.options.as_ref();
    let shim = site.class.runtime.start(&bundle, &id, options).await?;
    site.set_shim(Some(shim.clone()));
    let (rootfs, stdio) = (Vec::new(), StdioPaths::default());
    shim.create(&CreateRequest { id, bundle, rootfs, stdio }, options).await?;
    Ok(shim)
}

async fn sandbox(
    site: &Site,
    pod: &row::Pod,
    config: &PodSandboxConfig,
    paths: &PodPaths,
    facts: &spec::Node,
) -> Result<ContainerSpec, Fault> {
    let node: &Node = &site.node;
    let image = image()?;
    let profile = profile(config).await?;
    let input = SandboxInput {
        pod: config,
        pod_id: &site.id,
        network: Some(pod.netns.as_str()).filter(|path| !path.is_empty()),
        users: None,
        image: &image,
        image_name: IMAGE,
        paths,
        handler: &site.class.handler,
        node: facts,
        seccomp_profile: profile.as_deref(),
        accounts: None,
    };
    let made = spec::sandbox(&input);
    let mut made = made.map_err(|error| Fault::InvalidArgument(error.to_string()))?;
    let mut root = Root::default();
    root.set_path(node.programs.pause.clone()).set_readonly(Some(true));
    made.spec.set_root(Some(root));
    Ok(made)
}

/// An image that would have the program as its command.
fn image() -> Result<ImageConfiguration, Fault> {
    let failed = |error: oci_spec::OciSpecError| Fault::Internal(error.to_string());
    let command = vec![Programs::COMMAND.to_owned()];
    let config = ConfigBuilder::default().entrypoint(command).build().map_err(failed)?;
    let mut image = ImageConfiguration::default();
    image.set_config(Some(config));
    Ok(image)
}

/// The seccomp profile of the node that the pod names.
async fn profile(config: &PodSandboxConfig) -> Result<Option<String>, Fault> {
    let context = config.linux.clone().and_then(|linux| linux.security_context).unwrap_or_default();
    #[allow(deprecated, reason = "kubelets before 1.30 say it there")]
    let asked = LinuxContainerSecurityContext {
        seccomp: context.seccomp,
        seccomp_profile_path: context.seccomp_profile_path,
        ..LinuxContainerSecurityContext::default()
    };
    super::input::profile(&asked).await
}

async fn write(bundle: &Path, made: &ContainerSpec) -> Result<(), Fault> {
    let path = bundle.join("config.json");
    let failed = |error: &dyn std::fmt::Display| {
        Fault::Internal(format!("writing {}: {error}", path.display()))
    };
    let text = serde_json::to_vec(&made.spec).map_err(|error| failed(&error))?;
    tokio::fs::write(&path, text).await.map_err(|error| failed(&error))
}
