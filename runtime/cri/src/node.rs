//! What all parts of the daemon work with.

use crate::classes::Classes;
use crate::disk::Disks;
use crate::facts;
use crate::fault::Fault;
use crate::foreign::{News, Programs, Roots};
use crate::images::Images;
use crate::network::Network;
use crate::places::Places;
use crate::record::Records;
use crate::settings::Settings;

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    /// What the operator decided.
    pub(crate) settings: Settings,
    /// Where things are.
    pub(crate) places: Places,
    /// What is on record.
    pub(crate) records: Records,
    /// By which shims pods run.
    pub(crate) classes: Classes,
    /// The pods' network.
    pub(crate) network: Network,
    /// The images.
    pub(crate) images: Images,
    /// Disks for containers.
    pub(crate) disks: Disks,
    /// Root file systems on the node.
    pub(crate) roots: Roots,
    /// Programs of pods that run by other shims than ours.
    pub(crate) programs: Programs,
    /// What those shims publish.
    pub(crate) news: News,
    /// Where clients stream.
    pub(crate) streams: streaming::Server,
}

impl Node {
    /// What the node can do at the moment.
    pub(crate) fn facts(&self) -> crate::spec::Node {
        facts::ask(&self.settings)
    }

    /// An address at which one client gets this session.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when too many wait.
    pub(crate) fn url(&self, session: streaming::Session) -> Result<String, Fault> {
        self.streams.url(session).map_err(|error| Fault::Unavailable(error.to_string()))
    }
}
