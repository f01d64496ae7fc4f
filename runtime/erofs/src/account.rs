//! What the tree holds, and how much it may hold.

use crate::error::Error;
use crate::limits::Limits;

/// Amounts of what [`Limits`] limits in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) entries: u64,
    pub(crate) names: u64,
    pub(crate) xattrs: u64,
    pub(crate) holes: u64,
    pub(crate) tails: u64,
}

impl Amounts {
    fn each(&mut self) -> [&mut u64; 5] {
        let Self { entries, names, xattrs, holes, tails } = self;
        [entries, names, xattrs, holes, tails]
    }
}

/// What each amount is called, in the order of [`Amounts::each`].
const WHAT: [&str; 5] =
    ["entries", "bytes of names", "bytes of extended attributes", "holes", "bytes of tails"];

/// What there is, and what there may be.
#[derive(Debug)]
pub(crate) struct Account {
    used: Amounts,
    limits: Amounts,
}

impl Account {
    pub(crate) fn new(limits: &Limits) -> Self {
        let Limits { entries, names, xattrs, holes, tails, image: _ } = *limits;
        Self { used: Amounts::default(), limits: Amounts { entries, names, xattrs, holes, tails } }
    }

    /// Adds amounts.
    ///
    /// # Errors
    /// [`Error::Limit`] if a limit does not allow it; nothing is added then.
    pub(crate) fn add(&mut self, mut amounts: Amounts) -> Result<(), Error> {
        let mut sum = self.used;
        let parts = sum.each().into_iter().zip(amounts.each());
        for (((used, more), limit), what) in parts.zip(self.limits.each()).zip(WHAT) {
            *used = used.saturating_add(*more);
            if used > limit {
                return Err(Error::Limit { what, limit: *limit });
            }
        }
        self.used = sum;
        Ok(())
    }

    /// Takes back what was added.
    pub(crate) fn remove(&mut self, mut amounts: Amounts) {
        for (used, less) in self.used.each().into_iter().zip(amounts.each()) {
            *used = used.saturating_sub(*less);
        }
    }

    /// Whether a tail of so many bytes can still be added.
    pub(crate) fn has_room_for_tail(&self, bytes: u64) -> bool {
        self.used.tails.saturating_add(bytes) <= self.limits.tails
    }
}
