//! The generation ID: 16 random bytes that are others in every machine, also in one that goes on where
//! a saved one was. A guest that finds others than before seeds its random number generator anew.

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::BootError;
use crate::arch::x86_64::layout;

/// Size of the ID in bytes.
const SIZE: usize = 16;

/// Writes another ID. No vCPU may run.
///
/// # Errors
/// [`BootError::Random`], or [`BootError::Write`] if the memory has no place for it.
pub(crate) fn renew(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    let mut id = [0; SIZE];
    // So few bytes come whole, as soon as the host has seeded its generator (getrandom(2)).
    let got = getrandom(&mut id, GetRandomFlags::empty());
    match got.map_err(|error| BootError::Random(error.into()))? {
        SIZE => {}
        _ => return Err(BootError::Random(std::io::ErrorKind::UnexpectedEof.into())),
    }
    memory.write_slice(&id, GuestAddress(layout::GENERATION)).map_err(BootError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_has_an_id_of_its_own() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let next = || {
            renew(&memory).unwrap();
            let mut around = [0; SIZE + 16];
            memory.read_slice(&mut around, GuestAddress(layout::GENERATION - 8)).unwrap();
            let (before, rest) = around.split_at(8);
            let (id, after) = rest.split_at(SIZE);
            assert_eq!((before, after), (&[0; 8][..], &[0; 8][..]));
            id.to_vec()
        };
        let ids = [next(), next(), next()];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    }

    #[test]
    fn memory_without_a_place_for_it_is_refused() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0xf_f000)]).unwrap();
        assert!(matches!(renew(&memory), Err(BootError::Write(_))));
    }
}
