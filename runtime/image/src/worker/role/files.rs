//! What is made of layers that the store has: an archive, or the layer of implied directories.

use std::fs::File;
use std::io::{BufWriter, Read as _};
use std::path::PathBuf;

use vmm_api::wire::Channel;

use super::{Given, RoleError, Socket, failed, next, of_output};
use crate::export::{ExportError, Plan};
use crate::parents::{self, ParentsError};
use crate::worker::jail;
use crate::worker::words::{FailureKind, Job, Told};

/// Bytes that are written at once.
const PIECE: usize = 256 << 10;

pub(super) fn serve(jobs: &Channel, first: Given) -> Result<(), RoleError> {
    jail::enter()?;
    let mut layers: Vec<(PathBuf, File)> = Vec::new();
    let mut given = first;
    loop {
        let file = given.file()?;
        match given.job {
            Job::File(path) => layers.push((path, file)),
            Job::Save(format) => {
                let mut socket = given.socket;
                let plan = plan(&mut socket)?;
                let files: Vec<_> = layers.into_iter().map(|(_, file)| file).collect();
                let out = BufWriter::with_capacity(PIECE, file);
                let written = plan.write(&files, format, out);
                let told = written.map_or_else(
                    |error| vec![unwritten(&error)],
                    |all| all.into_iter().map(Told::Exported).chain([Told::Done]).collect(),
                );
                told.iter().try_for_each(|told| socket.tell(told))?;
                break;
            }
            Job::Parents => {
                let mut socket = given.socket;
                socket.tell(&implied(layers, &file))?;
                break;
            }
            _ => return Err(RoleError::Order("a job among layers")),
        }
        match next(jobs)? {
            Some(next) => given = next,
            None => return Ok(()),
        }
    }
    // What was told is heard before the end is seen.
    next(jobs).map(drop)
}

/// The plan, which the daemon has made.
fn plan(socket: &mut Socket) -> Result<Plan, RoleError> {
    let failed = |error| RoleError::Io("receiving the plan", error);
    let mut head = [0; 4];
    socket.0.read_exact(&mut head).map_err(failed)?;
    let length = u64::from(u32::from_le_bytes(head));
    let mut bytes = Vec::new();
    (&socket.0).take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(postcard::from_bytes(&bytes)?)
}

fn unwritten(error: &ExportError) -> Told {
    match error {
        ExportError::Write(_) => failed(FailureKind::Gone, error),
        _ => failed(FailureKind::Invalid, error),
    }
}

/// Whether the layers have implied directories, whose layer is in the file then.
fn implied(layers: Vec<(PathBuf, File)>, file: &File) -> Told {
    let made = parents::find_in(layers).and_then(|parents| {
        if !parents.is_empty() {
            parents::write(&parents, file)?;
        }
        Ok(!parents.is_empty())
    });
    match made {
        Ok(has) => Told::Implied(has),
        Err(ParentsError::Write(erofs::Error::Io(source))) => {
            failed(of_output(&source), &ParentsError::Write(erofs::Error::Io(source)))
        }
        Err(error) => failed(FailureKind::Invalid, &error),
    }
}
