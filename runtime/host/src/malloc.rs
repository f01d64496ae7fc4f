//! How much memory the allocator keeps for itself.
#![allow(unsafe_code, reason = "the C library's settings are in no safe library")]

/// Makes all threads allocate from one arena. Each arena of its own would keep memory that only its
/// threads can use, and a daemon has dozens of threads that are seldom used. To be called before
/// other threads run.
pub fn share_one_arena() {
    // SAFETY: the call has no other precondition.
    let done = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    debug_assert_eq!(done, 1);
}
