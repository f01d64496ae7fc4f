//! The control queue's commands (§5.1.6.5).

use vm_memory::GuestMemoryMmap;

use super::bits::{F_CTRL_GUEST_OFFLOADS, F_MQ, GUEST_OFFLOADS};
use crate::queue::Chain;

/// Class and command (§5.1.6.5.5): how many pairs of queues the driver uses.
const MQ_PAIRS_SET: [u8; 2] = [4, 0];

/// Class and command (§5.1.6.5.6): which offloads the driver takes from now on.
const GUEST_OFFLOADS_SET: [u8; 2] = [5, 0];

/// Answer: done.
pub(super) const OK: u8 = 0;

/// Answer: not done.
pub(super) const ERROR: u8 = 1;

/// What a driver may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Use so many pairs of queues.
    Pairs(u16),
    /// Take these of the negotiated offloads, as feature bits.
    Offloads(u64),
}

/// The command in a request of a driver with `features`, if it is a valid one.
pub(super) fn read(memory: &GuestMemoryMmap, chain: &Chain, features: u64) -> Option<Command> {
    let mut command = [0; 2];
    chain.readable.read_at(memory, 0, &mut command).ok()?;
    match command {
        MQ_PAIRS_SET if features & F_MQ != 0 => {
            let mut pairs = [0; 2];
            chain.readable.read_at(memory, 2, &mut pairs).ok()?;
            Some(Command::Pairs(u16::from_le_bytes(pairs)))
        }
        GUEST_OFFLOADS_SET if features & F_CTRL_GUEST_OFFLOADS != 0 => {
            let mut offloads = [0; 8];
            chain.readable.read_at(memory, 2, &mut offloads).ok()?;
            let offloads = u64::from_le_bytes(offloads);
            (offloads & !(features & GUEST_OFFLOADS) == 0).then_some(Command::Offloads(offloads))
        }
        _ => None,
    }
}
