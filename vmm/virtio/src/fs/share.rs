//! The shared directory as the file server sees it: the library's passthrough file system,
//! with what a hostile guest or a careful one needs changed.
//!
//! Everything is the library's own work except:
//! - names: the library hands them to the host as they are, and the share's root is not the
//!   root of the process;
//! - sizes and offsets that the guest chooses are capped: the library allocates what it is
//!   told to, and panics at offsets above 2⁶³;
//! - files whose content is not what their size says (see [`live`](super::live));
//! - listings (see [`listing`](super::listing)), what `sync` means (see
//!   [`mounts`](super::mounts)), and what a user may create by a group only (see
//!   [`ownership`](super::ownership));
//! - set-id bits, which the library clears by another library that the jail has no files for
//!   (see [`privilege`](super::privilege));
//! - files that have no name (see [`nameless`](super::nameless)).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use virtiofsd::filesystem::{Context, Entry, Extensions};
use virtiofsd::fuse::CreateIn;
use virtiofsd::passthrough::xattrmap::XattrMap;
use virtiofsd::passthrough::{CachePolicy, Config, NegotiationMode, PassthroughFs};

use super::FsConfig;
use super::listing::Listing;
use super::mounts::Mounts;
use super::nameless::Nameless;
use super::privilege::as_user;

/// How long the guest may believe what it knows of names and attributes. What kubelet changes
/// in a volume (a symbolic link that is replaced) shall be seen within a second, so half of
/// one: a name that is in use costs at most two questions a second more than without a limit.
pub(super) const VALID: Duration = Duration::from_millis(500);

/// Extended attributes by other names on the host: `trusted.*`, which the guest's kernel keeps
/// to its administrators and overlay file systems need, are the users' attributes of the host,
/// of no meaning there. Those and the host's own `trusted.*` are not for the guest's users.
const ATTRIBUTES: &str = "/prefix/all/trusted./user.virtiofs./ \
    /bad/server//trusted./ /bad/client/user.virtiofs.// /ok/all///";

/// The passthrough file system over a directory. A copy is the same one.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) passthrough: Arc<PassthroughFs>,
    pub(super) listing: Arc<Listing>,
    pub(super) mounts: Arc<Mounts>,
    pub(super) nameless: Arc<Nameless>,
    pub(super) attributes: Arc<XattrMap>,
}

impl Share {
    /// Serves the directory that `config` names. Looks at `/proc/self` now.
    pub(super) fn new(config: &FsConfig, listing: Arc<Listing>) -> io::Result<Self> {
        let root_dir = config.root.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let attributes = XattrMap::try_from(ATTRIBUTES).map_err(io::Error::other)?;
        let passthrough = PassthroughFs::new(Config {
            root_dir,
            xattr: true,
            xattrmap: Some(attributes.clone()),
            posix_acl: NegotiationMode::Auto,
            attr_timeout: VALID,
            entry_timeout: VALID,
            // Close-to-open consistency: what the host changes is seen on the next open.
            cache_policy: CachePolicy::Auto,
            allow_direct_io: true,
            // Files without a cache can be mapped nevertheless.
            allow_mmap: true,
            guest_fd_limit: config.max_files,
            ..Config::default()
        })?;
        // Done again on every INIT; here so that a missing directory is found at once.
        passthrough.open_root_node()?;
        Ok(Self {
            passthrough: Arc::new(passthrough),
            listing,
            mounts: Arc::new(Mounts::new(&config.root)?),
            nameless: Arc::default(),
            attributes: Arc::new(attributes),
        })
    }

    /// Makes a file without a name in the directory `parent`.
    ///
    /// # Errors
    /// The host's; ENFILE if the guest has too many.
    pub(super) fn make_nameless(
        &self,
        context: &Context,
        parent: u64,
        asked: CreateIn,
    ) -> io::Result<Entry> {
        self.nameless.make(&self.passthrough, context, parent, asked)
    }

    /// Makes an entry below `parent` as the user of `context`, or where only a group or an ACL
    /// lets it, as root.
    pub(super) fn make(
        &self,
        context: &Context,
        parent: u64,
        extensions: Extensions,
        make: impl Fn(&Context, Extensions) -> io::Result<Entry>,
    ) -> io::Result<Entry> {
        let error = match as_user(context, || make(context, extensions)) {
            Err(error) => error,
            made => return made,
        };
        let entry = |context: &Context| Ok((make(context, Extensions::default())?, ()));
        self.create_as_root(context, parent, error, entry).map(|(entry, ())| entry)
    }
}
