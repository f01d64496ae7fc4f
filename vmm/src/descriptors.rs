//! The descriptors that came with a request, each to be used once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vmm_api::FdSlot;

/// A request that names its descriptors wrongly.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DescriptorError {
    /// Fewer descriptors came than the request names.
    #[error("descriptor slot {slot} named, but only {count} descriptors came with the request")]
    Missing {
        /// The slot named.
        slot: u8,
        /// Number of descriptors that came.
        count: usize,
    },
    /// Two parts of the request name the same descriptor.
    #[error("descriptor slot {0} named twice: each use needs a descriptor of its own")]
    Twice(u8),
}

/// Descriptors by slot.
#[derive(Debug)]
pub(crate) struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    /// The descriptors of one request in the order of their slots.
    pub(crate) fn new(descriptors: Vec<OwnedFd>) -> Self {
        Self(descriptors.into_iter().map(Some).collect())
    }

    /// Takes the descriptor of a slot.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub(crate) fn take(&mut self, slot: FdSlot) -> Result<OwnedFd, DescriptorError> {
        self.entry(slot)?.take().ok_or(DescriptorError::Twice(slot.0))
    }

    /// Looks at the descriptor of a slot and leaves it there.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub(crate) fn borrow(&mut self, slot: FdSlot) -> Result<BorrowedFd<'_>, DescriptorError> {
        self.entry(slot)?.as_ref().map(AsFd::as_fd).ok_or(DescriptorError::Twice(slot.0))
    }

    fn entry(&mut self, slot: FdSlot) -> Result<&mut Option<OwnedFd>, DescriptorError> {
        let count = self.0.len();
        let missing = DescriptorError::Missing { slot: slot.0, count };
        self.0.get_mut(usize::from(slot.0)).ok_or(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_descriptor_is_taken_once() {
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let mut descriptors = Descriptors::new(vec![read]);
        assert!(descriptors.borrow(FdSlot(0)).is_ok());
        assert!(descriptors.take(FdSlot(0)).is_ok());
        assert_eq!(descriptors.take(FdSlot(0)).unwrap_err(), DescriptorError::Twice(0));
        let missing = DescriptorError::Missing { slot: 1, count: 1 };
        assert_eq!(descriptors.take(FdSlot(1)).unwrap_err(), missing);
    }
}
