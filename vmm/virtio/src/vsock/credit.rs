//! Flow control of a connection (§5.10.6.3). Each side says how large its buffer is and how much
//! has left it so far. So the other side can count what still fits.
//!
//! All counters are modulo 2^32, as on the wire.

use std::num::Wrapping;

/// Bytes that the guest may send ahead of the client's reading. The attack: a guest that sends
/// to clients which don't read fills the host's memory; so it can fill this much for each
/// connection, of which there is a limited number.
pub(super) const CREDIT: u32 = 64 << 10;

/// Counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Bytes from the guest that the client has taken.
    forwarded: Wrapping<u32>,
    /// What the guest knows of `forwarded`.
    told: Wrapping<u32>,
    /// The guest must be told soon.
    update_due: bool,
    /// Buffer size of the guest, as it last said.
    peer_size: u32,
    /// Bytes that the guest's reader has taken, as it last said.
    peer_forwarded: Wrapping<u32>,
    /// Bytes sent to the guest.
    sent: Wrapping<u32>,
    /// The guest has been asked for credit since it last had any for us.
    requested: bool,
}

impl Credit {
    /// Takes note of the credit fields that every packet of the guest has.
    pub(super) fn update(&mut self, peer_size: u32, peer_forwarded: u32) {
        self.peer_size = peer_size;
        self.peer_forwarded = Wrapping(peer_forwarded);
        self.requested &= self.available() == 0;
    }

    /// Bytes that may be sent to the guest.
    pub(super) fn available(&self) -> u32 {
        self.peer_size.saturating_sub((self.sent - self.peer_forwarded).0)
    }

    /// Counts bytes as sent to the guest.
    pub(super) fn count_sent(&mut self, count: u32) {
        self.sent += Wrapping(count);
    }

    /// Counts bytes as taken by the client; the guest is told before it can have run out.
    pub(super) fn count_forwarded(&mut self, count: usize) {
        // Never more than the credit at once.
        self.forwarded += Wrapping(u32::try_from(count).unwrap_or(CREDIT));
        self.update_due |= (self.forwarded - self.told).0 >= CREDIT / 2;
    }

    /// The guest wants to be told.
    pub(super) fn ask_update(&mut self) {
        self.update_due = true;
    }

    /// Whether the guest must be told of its credit.
    pub(super) fn update_due(&self) -> bool {
        self.update_due
    }

    /// The bytes taken so far, for a packet that is being sent and thereby tells the guest.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.update_due = false;
        self.forwarded.0
    }

    /// Whether there is something to do for data that waits: to send it, or to ask for credit.
    pub(super) fn concerns_reader(&self) -> bool {
        self.available() > 0 || !self.requested
    }

    /// Whether the guest must be asked for credit now; it counts as asked then.
    pub(super) fn take_request(&mut self) -> bool {
        let needed = self.available() == 0 && !self.requested;
        self.requested |= needed;
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap() {
        let mut credit = Credit::default();
        credit.update(100, u32::MAX - 10);
        assert_eq!(credit.available(), 89);
        credit.count_sent(89);
        assert_eq!(credit.available(), 0);
        assert!(credit.take_request());
        assert!(!credit.take_request());
        credit.update(100, 0);
        assert_eq!(credit.available(), 11);
        assert!(!credit.take_request());
    }

    #[test]
    fn a_lying_guest_gets_nothing() {
        let mut credit = Credit::default();
        credit.update(10, 1000);
        assert_eq!(credit.available(), 0);
    }

    #[test]
    fn the_guest_is_told_at_half() {
        let mut credit = Credit::default();
        credit.count_forwarded(CREDIT as usize / 2 - 1);
        assert!(!credit.update_due());
        credit.count_forwarded(1);
        assert!(credit.update_due());
        assert_eq!(credit.tell(), CREDIT / 2);
        assert!(!credit.update_due());
    }
}
