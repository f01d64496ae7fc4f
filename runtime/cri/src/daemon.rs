//! The daemon from its start to its end. Everything is opened and taken over before the first caller
//! is served. Pods go on when it ends.

use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use api::Namespace;
use cni::{NodeNetwork, Plugins};
use image::hosts::Hosts;
use image::store::Store;
use shim_client::Daemon as OfShims;
use streaming::{Limits, Listeners};
use tokio::net::{TcpListener, UnixListener};
use tonic::service::InterceptorLayer;
use tonic::transport::Server;

use crate::adopt::adopt;
use crate::classes::Classes;
use crate::disk::Disks;
use crate::facts;
use crate::foreign::{News, Programs, Roots};
use crate::generated::cri::image_service_server::ImageServiceServer;
use crate::generated::cri::runtime_service_server::RuntimeServiceServer;
use crate::generated::node::node_server::NodeServer;
use crate::images::Images;
use crate::listen::{self, Group};
use crate::network::Network;
use crate::node::Node;
use crate::own::OwnService;
use crate::places::Places;
use crate::pods::Pods;
use crate::record::Records;
use crate::rpc::Services;
use crate::settings::Settings;
use crate::sweep::sweep;

/// The namespace in which shims know our pods.
const NAMESPACE: &str = "cuddy.cri";

/// Most bytes of a message, as kubelet and crictl have it.
const MESSAGE: usize = 16 << 20;

/// How long one call of a CNI plugin may take.
const PLUGIN: std::time::Duration = std::time::Duration::from_secs(180);

/// Opens everything, takes over what there is, and serves until `end`. `ready` is called when the
/// first caller can come.
///
/// # Errors
/// Why it can't be served. Pods that run are left alone.
pub async fn run(
    settings: Settings,
    ready: impl FnOnce(),
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let places = Places::new(&settings.state, &settings.root);
    for directory in places.directories() {
        let made = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::set_permissions(&directory, Permissions::from_mode(0o711)));
        made.with_context(|| format!("making {}", directory.display()))?;
    }
    let records = Records::open(&places.records())?;
    let (store, findings) = Store::open(&places.images())?;
    for broken in &findings.broken {
        log::error!("image store: {broken}");
    }
    let daemon = Arc::new(OfShims {
        namespace: Namespace::new(NAMESPACE)?,
        address: settings.socket.display().to_string(),
        // Ends are waited for, and ours are asked then what they were: no event is needed.
        events: String::new(),
        publish_binary: "/bin/true".into(),
        log_level: log::max_level().to_level().unwrap_or(log::Level::Info),
        socket_dir: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: Vec::new(),
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let driver = facts::cgroup_driver(&settings);
    let foreign = OfShims { events: places.events().display().to_string(), ..(*daemon).clone() };
    let daemons = [daemon, Arc::new(foreign)];
    let classes = Classes::find(&path, &daemons, &settings, driver)?;
    let (programs, news) = match settings.handlers.is_empty() {
        true => Default::default(),
        false => (Programs::find(&path, &places.pause())?, News::serve(&places.events()).await?),
    };
    let plugins = Plugins::new(settings.cni_bin_dirs.clone(), PLUGIN);
    let cni = NodeNetwork::open(settings.cni_conf_dir.clone(), plugins);
    let now = records.now();
    let attachments = now.pods.values().map(|row| row.attachment.as_slice());
    let node = Arc::new(Node {
        network: Network::new(cni, &settings, attachments),
        disks: Disks::new(settings.root.clone()),
        roots: Roots::new(places.layers()),
        programs,
        news,
        images: Images::new(store, Hosts::new(&settings.registry_config), places.parents()),
        streams: streams(&places, &Group::find(&settings.group)).await?,
        settings,
        places,
        records,
        classes,
    });
    let pods = Pods::new(Arc::clone(&node));
    adopt(&pods).await;
    sweep(&node).await;
    let settled = node.images.store.clone();
    tokio::task::spawn_blocking(move || settled.uses_known()).await??;
    serve(&pods, ready, end).await
}

/// The streaming server: for the kubelet on the node's loopback, for our own command on a socket.
async fn streams(places: &Places, group: &Group) -> anyhow::Result<streaming::Server> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening for streams")?;
    let socket = places.streams();
    let _dead = std::fs::remove_file(&socket);
    let unix = UnixListener::bind(&socket)
        .with_context(|| format!("listening on {}", socket.display()))?;
    group.give(&socket).with_context(|| format!("protecting {}", socket.display()))?;
    let listeners = Listeners { tcp: Some(tcp), unix: Some(unix) };
    Ok(streaming::Server::start(listeners, Limits::default())?)
}

async fn serve(
    pods: &Arc<Pods>,
    ready: impl FnOnce(),
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let node = &pods.node;
    let socket = &node.settings.socket;
    let group = Group::find(&node.settings.group);
    if let Err(error) = group.give_logs(Path::new(listen::LOGS)) {
        log::warn!("{}: {error}: only root can read containers' logs there", listen::LOGS);
    }
    let listener = listen::listen(socket, &group).await?;
    let services = Services::new(pods);
    let runtime = RuntimeServiceServer::new(services.clone())
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let images = ImageServiceServer::new(services)
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let own = NodeServer::new(OwnService::new(pods)).max_decoding_message_size(MESSAGE);
    log::info!("serving on {}", socket.display());
    ready();
    let served = Server::builder()
        .layer(InterceptorLayer::new(listen::check))
        .add_service(runtime)
        .add_service(images)
        .add_service(own)
        .serve_with_incoming_shutdown(group.connections(listener), end)
        .await;
    let _gone = std::fs::remove_file(socket);
    served.with_context(|| format!("serving on {}", socket.display()))
}
