//! cgroup v2 of the guest: `/sys/fs/cgroup/pod/<container id>` per container. The agent itself
//! stays in the root, outside of every limit of the pod.

mod changes;
mod devices;
mod home;
mod limits;
mod memory;
mod stats;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use syscalls::bpf::{Kind, Program};

use crate::oci::Resources;
use crate::oci::resources::DeviceRule;

pub(crate) use changes::Changes;
use limits::Forgive;
pub(crate) use memory::{Scarce, limit_pod};
pub(crate) use stats::read_all;

/// Where the hierarchy is mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup above all containers, relative to [`ROOT`].
const POD: &str = "pod";

/// A cgroup file that could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A value was refused.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The refused value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup could not be made.
    #[error("create cgroup {path}")]
    Create {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup could not be removed.
    #[error("remove cgroup {path}")]
    Remove {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The requested limits make no sense.
    #[error("resources: {0}")]
    Limits(String),
    /// A cgroup could not be given to a user.
    #[error("give {path} to user {uid}")]
    Delegate {
        /// The file.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The device controller could not be set up.
    #[error("set up the device controller")]
    Devices(#[source] io::Error),
    /// Changes of a file cannot be watched, or the awaited one did not come.
    #[error("wait for {file} of {path}")]
    Watch {
        /// The file.
        file: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn read(directory: &Path, file: &str) -> Result<String, CgroupError> {
    let path = directory.join(file);
    std::fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })
}

fn write(directory: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = directory.join(file);
    // Never created: what is not there is a limit that this kernel lacks.
    let opened = File::options().write(true).open(&path);
    opened
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| CgroupError::Write { path, value: value.to_owned(), source })
}

/// Makes the pod's cgroup and lets every controller limit what is below it.
///
/// # Errors
/// No cgroup v2 hierarchy is mounted, or it refuses a controller that it lists.
pub(crate) fn prepare_root() -> Result<(), CgroupError> {
    let root = Path::new(ROOT);
    let pod = root.join(POD);
    enable_controllers(root)?;
    create(&pod)?;
    enable_controllers(&pod)
}

/// The cgroup above all containers.
pub(crate) fn pod() -> PathBuf {
    Path::new(ROOT).join(POD)
}

fn create(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn enable_controllers(directory: &Path) -> Result<(), CgroupError> {
    let controllers = read(directory, "cgroup.controllers")?;
    let wanted: Vec<String> =
        controllers.split_whitespace().map(|controller| format!("+{controller}")).collect();
    if wanted.is_empty() {
        Ok(())
    } else {
        write(directory, "cgroup.subtree_control", &wanted.join(" "))
    }
}

/// How long processes that were killed or frozen may take to be so.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cgroup of a container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// The attached program that decides on devices.
    devices: Mutex<Option<Program>>,
}

impl Cgroup {
    /// Makes the cgroup of a container whose id is a plain file name.
    ///
    /// # Errors
    /// The kernel refuses, for instance because it exists.
    pub(crate) fn create(container_id: &str) -> Result<Self, CgroupError> {
        let path = Path::new(ROOT).join(POD).join(container_id);
        std::fs::create_dir(&path)
            .map_err(|source| CgroupError::Create { path: path.clone(), source })?;
        Ok(Self { path, devices: Mutex::new(None) })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets limits; what is not mentioned stays.
    ///
    /// # Errors
    /// A limit makes no sense or the kernel refuses it. Earlier ones may be set by then.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        self.check_usage(resources)?;
        // A cgroup without the cpu controller has none; the setting says so then.
        let cpu_max = read(&self.path, "cpu.max").unwrap_or_default();
        for setting in limits::settings(resources, &cpu_max).map_err(CgroupError::Limits)? {
            match (write(&self.path, &setting.file, &setting.value), setting.forgive) {
                (Err(CgroupError::Write { path, source, .. }), Forgive::NoFile)
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    log::debug!("no {} in this kernel", path.display());
                }
                (Err(CgroupError::Write { .. }), Forgive::Refusal) => {}
                (Err(CgroupError::Write { source, .. }), Forgive::Nothing)
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    return Err(CgroupError::Limits(format!(
                        "{} = {}: the guest's kernel has no such limit; leave it out",
                        setting.file, setting.value
                    )));
                }
                (other, _) => other?,
            }
        }
        match &resources.devices {
            Some(rules) => self.restrict_devices(rules),
            None => Ok(()),
        }
    }

    /// `memory.checkBeforeUpdate`: rather no new limit than processes killed by it.
    fn check_usage(&self, resources: &Resources) -> Result<(), CgroupError> {
        let checked = resources.memory.filter(|memory| memory.check_before_update() == Some(true));
        let limit = checked.and_then(|memory| memory.limit()).filter(|limit| *limit > 0);
        let Some(limit) = limit else { return Ok(()) };
        let used = read(&self.path, "memory.current")?;
        match used.trim().parse::<i64>() {
            Ok(used) if used > limit => Err(CgroupError::Limits(format!(
                "memory limit {limit} is below the {used} bytes in use"
            ))),
            _ => Ok(()),
        }
    }

    /// Gives the cgroup to a user, who may then divide it further but not change its limits
    /// (config-linux.md, "Cgroup ownership").
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn delegate(&self, uid: u32) -> Result<(), CgroupError> {
        let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_default();
        let files: Vec<&str> = if listed.is_empty() {
            vec!["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
        } else {
            listed.lines().collect()
        };
        let paths = files.iter().map(|file| self.path.join(file)).chain([self.path.clone()]);
        for path in paths {
            match std::os::unix::fs::chown(&path, Some(uid), None) {
                // Not every listed file is in every cgroup.
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CgroupError::Delegate { path, uid, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn restrict_devices(&self, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        let program = devices::program(rules).map_err(CgroupError::Limits)?;
        let program = Program::load(Kind::CgroupDevice, &program).map_err(CgroupError::Devices)?;
        let directory = File::open(&self.path).map_err(CgroupError::Devices)?;
        program.attach(directory.as_fd()).map_err(CgroupError::Devices)?;
        let mut current = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = current.replace(program) {
            // Both decide for a moment, which only denies more.
            former.detach(directory.as_fd()).map_err(CgroupError::Devices)?;
        }
        Ok(())
    }

    /// Puts a process into the cgroup. If the container has cgroups of its own, its top may hold
    /// no process any more; then an exec goes to where the container's first process, `init`, is,
    /// as with runc.
    ///
    /// # Errors
    /// The kernel refuses, or `init` has left the container's cgroups or ended.
    pub(crate) fn enter(&self, pid: i32, init: Option<i32>) -> Result<(), CgroupError> {
        let result = write(&self.path, "cgroup.procs", &pid.to_string());
        match (&result, init) {
            (Err(CgroupError::Write { source, .. }), Some(init))
                if source.kind() == io::ErrorKind::ResourceBusy =>
            {
                let home = home::of(init)?;
                if !home.starts_with(&self.path) {
                    return result;
                }
                write(&home, "cgroup.procs", &pid.to_string())
            }
            _ => result,
        }
    }

    /// Process ids in the cgroup and below.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut all = procs(&self.path);
        all.extend(self.descendants().iter().flat_map(|path| procs(path)));
        all
    }

    /// Cgroups below, parents first.
    fn descendants(&self) -> Vec<PathBuf> {
        let mut found = vec![self.path.clone()];
        let mut position = 0;
        while let Some(path) = found.get(position) {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let below: Vec<PathBuf> = entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            found.extend(below);
            position += 1;
        }
        found.split_off(1)
    }

    /// Kills every process in the cgroup and below, frozen ones too.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        write(&self.path, "cgroup.kill", "1")
    }

    /// Stops or continues every process and waits until it is so.
    ///
    /// # Errors
    /// The kernel refuses, or a process cannot be stopped in time; then all go on.
    pub(crate) async fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        let changes = Changes::watch(&self.path, "cgroup.events")?;
        write(&self.path, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let result = changes.until(PATIENCE, |text| text.lines().any(|line| line == wanted)).await;
        if result.is_err() && frozen {
            write(&self.path, "cgroup.freeze", "0")?;
        }
        result
    }

    /// Kills what is left and removes the cgroup.
    ///
    /// # Errors
    /// A process does not end (it hangs in the kernel).
    pub(crate) async fn remove(&self) -> Result<(), CgroupError> {
        let changes = match Changes::watch(&self.path, "cgroup.events") {
            Err(CgroupError::Watch { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        self.kill()?;
        changes.until(PATIENCE, |text| text.lines().any(|line| line == changes::EMPTY)).await?;
        for path in self.descendants().iter().rev().chain([&self.path]) {
            std::fs::remove_dir(path)
                .map_err(|source| CgroupError::Remove { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Kills every process of a container that is perhaps only being made.
///
/// # Errors
/// It has no cgroup.
pub(crate) fn kill(container_id: &str) -> Result<(), CgroupError> {
    write(&pod().join(container_id), "cgroup.kill", "1")
}

/// Kills everything in the pod, for the end of the machine, and waits until it is gone. Blocks.
///
/// # Errors
/// Something is still there after `patience`.
pub(crate) fn end_pod(patience: Duration) -> Result<(), CgroupError> {
    let pod = pod();
    write(&pod, "cgroup.kill", "1")?;
    changes::wait_until_empty(&pod, patience)
}

fn procs(directory: &Path) -> Vec<i32> {
    let text = read(directory, "cgroup.procs").unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
