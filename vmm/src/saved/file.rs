//! The state file.
//!
//! ```text
//! offset  bytes
//!      0      8  "CUDDYSAV"
//!      8      4  format, little endian
//!     12     32  build of the VMM that wrote it (see vmm/build.rs)
//!     44      4  length of the content in bytes, little endian
//!     48     32  SHA-256 of all else: what is before, then the content
//!     80         the content: a SavedMachine as postcard writes it
//! ```
//!
//! The digest tells damage from a difference. It is no proof of who wrote the file: a client gives
//! only files that it keeps from others.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::{SavedError, SavedMachine};

const MAGIC: &[u8; 8] = b"CUDDYSAV";

/// Layout of the header. What the content is follows from the build.
pub(super) const FORMAT: u32 = 1;

/// The build of this VMM: a digest of its sources and the versions of its libraries.
const BUILD: &[u8; 32] = include_bytes!(concat!(env!("OUT_DIR"), "/build-id"));

/// Size of the header.
const HEADER: usize = 80;

/// Where in the header the digest is.
const DIGEST: usize = 48;

/// Most bytes of a file. A machine with 64 devices and the largest registers needs less than a
/// tenth. The attack: a file that makes the VMM allocate what its client has not paid for.
pub(super) const MOST: u64 = 1 << 20;

/// Reads a state, whatever the position in the file is.
///
/// # Errors
/// [`SavedError`] that says what is wrong with the file.
pub(crate) fn read(file: OwnedFd) -> Result<SavedMachine, SavedError> {
    let file = File::from(file);
    let failed = |error| SavedError::File("read", error);
    let found = file.metadata().map_err(failed)?.len();
    if found > MOST {
        return Err(SavedError::Length { found, expected: MOST });
    }
    let mut bytes = vec![0; usize::try_from(found).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    decode(&bytes)
}

/// Writes a state to an empty file.
///
/// # Errors
/// [`SavedError::File`] if it can't be written.
pub(crate) fn write(file: OwnedFd, machine: &SavedMachine) -> Result<(), SavedError> {
    let bytes = encode(machine)?;
    File::from(file).write_all_at(&bytes, 0).map_err(|error| SavedError::File("write", error))
}

/// The bytes of a file with this state.
pub(crate) fn encode(machine: &SavedMachine) -> Result<Vec<u8>, SavedError> {
    let content = postcard::to_stdvec(machine).map_err(SavedError::Malformed)?;
    seal(&content).ok_or_else(|| SavedError::File("write", io::ErrorKind::FileTooLarge.into()))
}

/// The bytes of a file with this content; none if it is too long.
pub(crate) fn seal(content: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(content.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(BUILD);
    bytes.extend_from_slice(&length.to_le_bytes());
    let digest = digest(&bytes, content);
    bytes.extend_from_slice(&digest);
    bytes.extend_from_slice(content);
    (bytes.len() as u64 <= MOST).then_some(bytes)
}

/// The state in the bytes of a file.
pub(crate) fn decode(bytes: &[u8]) -> Result<SavedMachine, SavedError> {
    let Some((header, content)) = bytes.split_at_checked(HEADER) else {
        let start = &bytes[..bytes.len().min(MAGIC.len())];
        let (found, expected) = (bytes.len() as u64, HEADER as u64);
        let cut = start == MAGIC;
        return Err(if cut {
            SavedError::Length { found, expected }
        } else {
            SavedError::NotSaved
        });
    };
    let (fields, said) = header.split_at(DIGEST);
    if &fields[..8] != MAGIC {
        return Err(SavedError::NotSaved);
    }
    let number = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&fields[at..at + 4]);
        u32::from_le_bytes(four)
    };
    // Before the digest, which may lie elsewhere in another format.
    if number(8) != FORMAT {
        return Err(SavedError::Format(number(8)));
    }
    let expected = HEADER as u64 + u64::from(number(44));
    let found = bytes.len() as u64;
    if found != expected {
        return Err(SavedError::Length { found, expected });
    }
    if said != digest(fields, content) {
        return Err(SavedError::Damaged);
    }
    if &fields[12..44] != BUILD {
        return Err(SavedError::Build);
    }
    let (machine, rest): (SavedMachine, _) =
        postcard::take_from_bytes(content).map_err(SavedError::Malformed)?;
    // Each window has one device, and they come in its order.
    let ordered = machine.devices.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if rest.is_empty() && ordered {
        Ok(machine)
    } else {
        Err(SavedError::Malformed(postcard::Error::DeserializeBadEncoding))
    }
}

fn digest(fields: &[u8], content: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(fields).chain_update(content).finalize().into()
}
