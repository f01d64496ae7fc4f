//! Who a process is.

/// Most groups that a process can have: the kernel's `NGROUPS_MAX`.
pub const MAX_GROUPS: usize = 65_536;

/// Who a process is, by the numbers that its container knows. In a machine the guest says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups, [`MAX_GROUPS`] at most.
    pub groups: Vec<u32>,
}
