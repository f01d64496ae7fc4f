//! A container: a specification, a cgroup and processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::census;
use crate::cgroup::{Cgroup, CgroupError};
use crate::control::Order;
use crate::error::{Error, Result};
use crate::init;
use crate::launch::{LaunchError, Place};
use crate::oci::{self, Spec};
use crate::pod_users::Making;
use crate::process::{Created, Process, Workshop};
use crate::reaper::Reaper;
use crate::stdio::Streams;
use crate::sys;
use crate::sys::filter::Filter;

/// Longest id of a container or exec in bytes; the kernel's longest file name.
const MAX_ID: usize = 255;

/// Execs that a container may have at a time. The attack: a host client that never deletes.
const MAX_EXECS: usize = 4096;

/// What a container is made with, beside what it is to be.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    /// Hears of its processes' ends.
    pub(crate) reaper: &'a Reaper,
    /// Connections of the host for its streams.
    pub(crate) connections: &'a Streams,
    /// The pod's user namespace, if this container makes it.
    pub(crate) users: Option<Making<'a>>,
}

/// A container from its creation to its deletion.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    spec: Box<Spec>,
    filter: Option<Filter>,
    cgroup: Cgroup,
    init: Arc<Process>,
    execs: Mutex<HashMap<String, Arc<Process>>>,
    deleted: watch::Sender<bool>,
}

/// Checks that an id is a plain file name of the letters that containerd allows.
///
/// # Errors
/// It is not.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID || id == "." || id == ".." || !id.bytes().all(plain) {
        return Err(Error::Invalid(format!("{id:?} cannot be an id")));
    }
    Ok(())
}

impl Container {
    /// Makes a container up to the execution of its program. The id has been checked.
    ///
    /// # Errors
    /// It cannot be made; nothing of it is left.
    pub(crate) async fn create(
        id: &str,
        mut spec: Spec,
        streams: agent_api::types::Streams,
        Means { reaper, connections, users }: Means<'_>,
    ) -> Result<(Arc<Self>, Created)> {
        let process =
            spec.process.clone().ok_or(Error::Invalid("spec has no process".to_owned()))?;
        for line in spec.left_out().map_err(Error::Invalid)? {
            log::info!("container {id}: {line}");
        }
        let filter = spec.linux.seccomp.take().as_ref().map(init::compile_seccomp).transpose();
        let filter = filter.map_err(LaunchError::Failed)?;
        let cgroup = Cgroup::create(id)?;
        let order = Order {
            container_id: id.to_owned(),
            spec: Box::new(spec.clone()),
            process: Box::new(process),
            filter: filter.clone(),
            cgroup: cgroup.path().to_owned(),
            join: false,
        };
        let init = Arc::new(Process::new(String::new(), order, streams));
        let workshop = Workshop { reaper, streams: connections, cgroup: &cgroup };
        let made = async {
            limit(&cgroup, &spec)?;
            let created = init.prepare(workshop, Place::Own(users)).await?;
            // Only now is it known who the process is.
            let owner = spec.cgroup_owner(created.user.uid());
            owner.map_or(Ok(()), |uid| cgroup.delegate(uid))?;
            Ok(created)
        };
        let created = match made.await {
            Ok(created) => created,
            Err(error) => {
                if let Err(left) = cgroup.remove().await {
                    log::warn!("clean up container {id}: {left}");
                }
                return Err(error);
            }
        };
        let container = Arc::new(Self {
            id: id.to_owned(),
            spec: Box::new(spec),
            filter,
            cgroup,
            init,
            execs: Mutex::default(),
            deleted: watch::Sender::new(false),
        });
        tokio::spawn(Arc::clone(&container).end_with_init());
        Ok((container, created))
    }

    /// A container does not outlive its first process, whatever its pid namespace.
    async fn end_with_init(self: Arc<Self>) {
        self.init.wait().await;
        if let Err(error) = self.cgroup.kill() {
            log::debug!("end container {}: {error}", self.id);
        }
    }

    /// Stops every process, or lets them go on.
    ///
    /// # Errors
    /// The container does not run, or a process cannot be stopped in time.
    pub(crate) async fn pause(&self, paused: bool) -> Result<()> {
        if !self.init.is_alive() {
            return Err(Error::State("container is stopped"));
        }
        Ok(self.cgroup.freeze(paused).await?)
    }

    /// What no file of its cgroup tells of it. Blocks.
    pub(crate) fn census(&self) -> String {
        let init = self.init.pid().filter(|_| self.init.is_alive());
        census::take(&self.cgroup.processes(), init, &self.spec.root.path)
    }

    /// Its cgroup.
    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether it has been deleted, now or later.
    pub(crate) fn watch_deletion(&self) -> watch::Receiver<bool> {
        self.deleted.subscribe()
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Process>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process by its exec id; init by the empty one.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        let execs = self.execs();
        execs.get(exec_id).cloned().ok_or_else(|| Error::NoProcess(exec_id.to_owned()))
    }

    /// Notes an exec without making it.
    ///
    /// # Errors
    /// The id is bad or in use, or init has exited.
    pub(crate) fn add_exec(
        &self,
        exec_id: &str,
        process: oci::Process,
        streams: agent_api::types::Streams,
    ) -> Result<()> {
        check_id(exec_id)?;
        if self.init.has_exited() {
            return Err(Error::State("container is stopped"));
        }
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(Error::Exists(exec_id.to_owned()));
        }
        if execs.len() >= MAX_EXECS {
            return Err(Error::State("container has too many execs"));
        }
        let order = Order {
            container_id: self.id.clone(),
            spec: self.spec.clone(),
            process: Box::new(process),
            filter: self.filter.clone(),
            cgroup: self.cgroup.path().to_owned(),
            join: true,
        };
        let exec = Process::new(exec_id.to_owned(), order, streams);
        execs.insert(exec_id.to_owned(), Arc::new(exec));
        Ok(())
    }

    /// Makes and starts an exec.
    ///
    /// # Errors
    /// Init does not run, or the process cannot be made.
    pub(crate) async fn start_exec(
        &self,
        exec_id: &str,
        reaper: &Reaper,
        streams: &Streams,
    ) -> Result<i32> {
        let exec = self.process(exec_id)?;
        if self.init.has_exited() || !self.init.has_started() {
            return Err(Error::State("container is not running"));
        }
        let workshop = Workshop { reaper, streams, cgroup: &self.cgroup };
        let init = self.init.target().ok_or(Error::State("container is not running"))?;
        exec.prepare(workshop, Place::Joined(init)).await?;
        exec.start().await
    }

    /// Forgets an exec.
    ///
    /// # Errors
    /// There is none, or it runs.
    pub(crate) fn delete_exec(&self, exec_id: &str) -> Result<()> {
        let exec = self.process(exec_id)?;
        if exec.is_alive() {
            return Err(Error::State("process is running"));
        }
        // It may be about to be made, by a call that its caller has given up.
        exec.cancel();
        self.execs().remove(exec_id);
        Ok(())
    }

    /// Signals every process. SIGKILL is atomic and reaches processes being forked.
    ///
    /// # Errors
    /// There is none any more.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return Ok(self.cgroup.kill()?);
        }
        let processes = self.cgroup.processes();
        if processes.is_empty() {
            return Err(Error::NoProcess(String::new()));
        }
        for pid in processes {
            // One may have ended since; that is what signals are for.
            let _ = sys::signal::kill(pid, signal);
        }
        Ok(())
    }

    /// All process ids, with the exec id of those that were started from outside.
    pub(crate) fn list(&self) -> Vec<(i32, String)> {
        let execs = self.execs();
        let name = |pid| {
            let known = execs.values().find(|exec| exec.pid() == Some(pid));
            known.map(|exec| exec.exec_id().to_owned()).unwrap_or_default()
        };
        self.cgroup.processes().into_iter().map(|pid| (pid, name(pid))).collect()
    }

    /// Ends what is left and frees everything.
    ///
    /// # Errors
    /// Init runs.
    pub(crate) async fn delete(&self) -> Result<()> {
        if self.init.is_alive() && self.init.has_started() {
            return Err(Error::State("container is running"));
        }
        self.cgroup.remove().await?;
        self.deleted.send_replace(true);
        Ok(())
    }
}

/// Sets what a new container's cgroup enforces.
fn limit(cgroup: &Cgroup, spec: &Spec) -> std::result::Result<(), CgroupError> {
    let mut resources = spec.linux.resources.clone().unwrap_or_default();
    // As with runc: no list of devices allows none but those that every container has.
    resources.devices.get_or_insert_default();
    cgroup.apply(&resources)
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn ids_are_plain_file_names() {
        for good in ["a", "c1_x.y-z", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "\u{e4}", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
