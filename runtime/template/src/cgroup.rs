//! The cgroup of builders. What they write to templates is charged to it for as long as these are
//! there. It has a tenth of the usual share of CPUs.

use api::Error;
use host::cgroup::Cgroup;

/// Where it is, below the top of each hierarchy.
const PATH: &str = "/cuddy-templates";

/// Its value; none on a host without cgroups.
pub(crate) fn of_builders() -> Result<Option<Cgroup>, Error> {
    Cgroup::new(PATH)
}

/// Puts this process into it.
///
/// # Errors
/// [`Error::Failed`] with what the kernel answered.
pub(crate) fn enter() -> Result<Option<Cgroup>, Error> {
    let cgroup = of_builders()?;
    if let Some(cgroup) = &cgroup {
        cgroup.create()?;
        cgroup.stand_back();
        cgroup.enter(std::process::id())?;
    }
    Ok(cgroup)
}

/// Removes the cgroup of builders, unless one is at work.
pub fn remove_cgroup() {
    let Ok(Some(cgroup)) = of_builders() else { return };
    for directory in cgroup.directories() {
        if let Err(error) = host::cgroup::remove(directory) {
            log::debug!("{error}");
        }
    }
}
