//! Forgetting processes and containers, and the end of the sandbox.

use std::sync::Arc;
use std::time::SystemTime;

use api::events::{EventKind, Exit};
use api::request::Target;
use api::{ContainerId, Error};
use host::mounts::Share;
use host::store::StateDir;
use machine::Live;

use super::{Owner, Reply, Shutdown, Slot, answer};
use crate::blocking::blocking;
use crate::hooks::Moment;
use crate::storage::Rootfs;

impl Owner {
    pub(super) fn delete(&mut self, target: Target, reply: Reply<(u32, Exit)>) {
        match target.exec {
            Some(_) => self.delete_exec(target, reply),
            None => self.delete_container(target.container, reply),
        }
    }

    fn delete_exec(&mut self, target: Target, reply: Reply<(u32, Exit)>) {
        let accepted = self.container(&target.container).and_then(|container| {
            let pid = container.pid;
            let process = container.process(&target)?;
            let exit = process.may_delete(target.name())?;
            Ok(((pid, exit.unwrap_or_else(never_started)), process.streams.last_call()))
        });
        let (deleted, output) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return answer(reply, Err(error)),
        };
        self.run(output.last(), move |owner, ()| {
            owner.forget_exec(target);
            answer(reply, Ok(deleted));
        });
    }

    /// Forgets an exec that has ended.
    pub(super) fn forget_exec(&mut self, target: Target) {
        if let Ok(container) = self.container(&target.container)
            && let Some(exec) = &target.exec
        {
            container.execs.remove(exec);
        }
        // The guest forgets on its own time: the caller has all it needs.
        if let Ok(booted) = self.booted() {
            let work = async move { booted.live.guest.delete_process(&target).await };
            self.run(work, |_, outcome| note(outcome));
        }
    }

    fn delete_container(&mut self, id: ContainerId, reply: Reply<(u32, Exit)>) {
        let accepted = self.container(&id).and_then(|container| {
            let exit = container.init.may_delete(id.as_str())?;
            if container.deleting {
                return Err(Error::State(format!("container {:?} is being deleted", id.as_str())));
            }
            container.deleting = true;
            let (rootfs, hooks) = (container.rootfs.take(), container.hooks.take());
            let output = container.init.streams.last_call();
            Ok((exit.unwrap_or_else(never_started), output, rootfs, hooks))
        });
        let (exit, output, rootfs, hooks) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return answer(reply, Err(error)),
        };
        let booted = self.booted().ok();
        let share = booted.as_ref().map(|booted| booted.live.share.clone());
        let booted = booted.filter(|_| rootfs.is_some());
        let (state, asked) = (self.state.clone(), id.clone());
        let work = async move {
            output.last().await;
            let let_go = match booted {
                Some(booted) => take_from_guest(&asked, rootfs, &booted.live).await,
                None => Ok(()),
            };
            let undone = forget_on_host(state, asked, share).await;
            if let Some(hooks) = hooks {
                // The state of a stopped container has no process id.
                note(hooks.run(Moment::Stopped, 0).await);
            }
            (let_go, undone)
        };
        self.run(work, move |owner, (let_go, undone)| {
            owner.careful |= let_go.is_err();
            note(let_go);
            if let Err(error) = undone {
                log::error!("{error}");
            }
            owner.deleted(&id, exit, reply);
        });
    }

    fn deleted(&mut self, id: &ContainerId, exit: Exit, reply: Reply<(u32, Exit)>) {
        let Some(Slot::Present(container)) = self.containers.remove(id) else {
            return answer(reply, Err(Error::no_container(id.as_str())));
        };
        let pid = container.pid;
        if !container.is_quiet() {
            self.publish(id, EventKind::Deleted { pid, exit });
        }
        answer(reply, Ok((pid, exit)));
        self.close_if_done();
    }

    /// Ends the sandbox if its end was asked for and nothing keeps it any more.
    pub(super) fn close_if_done(&mut self) {
        if self.close_when_empty && self.is_empty() {
            self.close();
        }
    }

    /// Ends the sandbox if nothing keeps it, or as the caller wishes.
    pub(super) fn shutdown(&mut self, wish: Shutdown) -> bool {
        if self.is_empty() || wish == Shutdown::Now {
            self.close();
            return true;
        }
        self.close_when_empty |= wish == Shutdown::WhenEmpty;
        false
    }
}

/// Removes what a container has on the host. The share's thread may wait for a filesystem that does
/// not answer, and this one must not.
///
/// # Errors
/// What could not be undone.
pub(super) async fn forget_on_host(
    state: StateDir,
    id: ContainerId,
    share: Option<Arc<Share>>,
) -> Result<(), Error> {
    let doing = format!("removing what container {id} left");
    let text = doing.clone();
    let remove = move || {
        state.destroy_container(&id, share.as_deref()).map_err(|error| Error::failed(&text, &error))
    };
    blocking(&doing, remove).await
}

/// Frees a container in the guest, then its root filesystem, even if the guest keeps something.
pub(super) async fn take_from_guest(
    id: &ContainerId,
    rootfs: Option<Rootfs>,
    live: &Live,
) -> Result<(), Error> {
    let deleted = live.guest.delete(id).await;
    let undone = match rootfs {
        Some(rootfs) => rootfs.undo(live).await,
        None => Ok(()),
    };
    deleted.and(undone)
}

/// Logs what could not be done on the way out; the machine's end does it in any case.
fn note(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        log::warn!("{error}");
    }
}

fn never_started() -> Exit {
    Exit { status: 0, at: SystemTime::now() }
}
