//! A load: keeps an archive, tells what images it has, and makes their layers.

use std::fs::File;

use vmm_api::wire::Channel;

use super::{Given, RoleError, failed, layer, next, of_output};
use crate::archive::{self, ArchiveError, Contents};
use crate::manifest::Platform;
use crate::worker::jail;
use crate::worker::words::{FailureKind, Found, Job, Told};

pub(super) fn serve(jobs: &Channel, mut first: Given) -> Result<(), RoleError> {
    let stream = first.file()?;
    let kept: File = first.more.take().ok_or(RoleError::Order("an archive without a file"))?.into();
    jail::enter()?;
    let opened = archive::kept(stream, &kept).and_then(|contents| {
        let found = archive::images(&contents, &Platform::guest())?;
        Ok((contents, found))
    });
    let (contents, found) = match opened {
        Ok(opened) => opened,
        Err(error) => return first.socket.tell(&refusal(&error)),
    };
    for archive::Found { names, manifest, config_text, layers, .. } in found {
        first.socket.tell(&Told::Found(Box::new(Found { names, manifest, layers })))?;
        first.socket.tell(&Told::Config(config_text))?;
    }
    first.socket.tell(&Told::Done)?;
    drop(first);
    while let Some(given) = next(jobs)? {
        entry(&contents, given)?;
    }
    Ok(())
}

fn entry(contents: &Contents, mut given: Given) -> Result<(), RoleError> {
    let file = given.file()?;
    let Job::Entry(path, wanted) = &given.job else { return Err(RoleError::Order("no layer")) };
    let told = match archive::convert(contents, path, &wanted.expected(), &file) {
        Ok(()) => Told::Done,
        Err(error) => refusal(&error),
    };
    given.socket.tell(&told)
}

fn refusal(error: &ArchiveError) -> Told {
    match error {
        ArchiveError::Layer { source, .. } => failed(layer::kind(source), error),
        ArchiveError::Read { source, .. } => failed(of_output(source), error),
        _ => failed(FailureKind::Invalid, error),
    }
}
