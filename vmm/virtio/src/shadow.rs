//! What the guest reads of the windows: registers and configuration space, in memory.
//!
//! A machine maps this memory read-only where the windows are. Reading a register then costs the
//! guest no exit, while writing one still exits to this process. What is here is all there is: a
//! register that shows the device's state, such as its status, is kept here and nowhere else.

use std::fmt;
use std::mem::size_of_val;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::registers::{
    self, DEVICE_ID, LAYOUT_VERSION, MAGIC, MAGIC_VALUE, VENDOR, VENDOR_ID, VERSION, WINDOW_SIZE,
    WINDOW_WORDS,
};

/// Windows on a page.
const PER_PAGE: usize = 1024 / WINDOW_WORDS;

/// The unit that can be mapped.
#[repr(C, align(4096))]
struct Page([[AtomicU32; WINDOW_WORDS]; PER_PAGE]);

/// What the guest reads of all windows, in their order.
#[derive(Clone)]
pub struct Shadows(Arc<[Page]>);

impl Shadows {
    /// Empty windows, at least `count`. Each shows the magic number, the version and device type
    /// 0, for which drivers back off (§4.2.3.1.1).
    pub fn new(count: usize) -> Self {
        let page = |_| Page([const { [const { AtomicU32::new(0) }; WINDOW_WORDS] }; PER_PAGE]);
        let shadows = Self((0..count.div_ceil(PER_PAGE)).map(page).collect());
        for index in 0..shadows.0.len() * PER_PAGE {
            let window = shadows.window(index);
            window.set(MAGIC_VALUE, MAGIC);
            window.set(VERSION, LAYOUT_VERSION);
        }
        shadows
    }

    /// The window at `index`.
    ///
    /// # Panics
    /// If there are fewer windows.
    pub fn window(&self, index: usize) -> Shadow {
        assert!(index < self.0.len() * PER_PAGE, "no window {index}");
        Shadow { all: self.clone(), index }
    }

    /// Where the windows are, whole pages that stay in their place as long as there is a clone of
    /// this. Change only through [`Shadow`].
    pub fn address(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    /// Number of bytes at [`Shadows::address`].
    pub fn size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl fmt::Debug for Shadows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadows").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// What the guest reads of one window.
#[derive(Debug, Clone)]
pub struct Shadow {
    all: Shadows,
    index: usize,
}

impl Shadow {
    /// The 4 bytes at `register`, an offset in the window. 0 past the window's end.
    pub fn read(&self, register: u64) -> u32 {
        self.word(register).map_or(0, |word| u32::from_le(word.load(Ordering::SeqCst)))
    }

    /// Shows a value.
    pub(crate) fn set(&self, register: u64, value: u32) {
        if let Some(word) = self.word(register) {
            word.store(value.to_le(), Ordering::SeqCst);
        }
    }

    /// Sets bits of a value.
    pub(crate) fn raise(&self, register: u64, bits: u32) {
        if let Some(word) = self.word(register) {
            word.fetch_or(bits.to_le(), Ordering::SeqCst);
        }
    }

    /// Clears bits of a value.
    pub(crate) fn lower(&self, register: u64, bits: u32) {
        if let Some(word) = self.word(register) {
            word.fetch_and(!bits.to_le(), Ordering::SeqCst);
        }
    }

    /// Shows what of a device stays the same, its `config` space included, but not that it is
    /// there. The generation of `config` (§4.2.2, `ConfigGeneration`) is therefore always 0.
    pub(crate) fn fill(&self, config: &[u8]) {
        debug_assert!(config.len() as u64 <= WINDOW_SIZE - registers::CONFIG);
        self.set(VENDOR_ID, VENDOR);
        // No device here has shared memory.
        for register in (registers::SHM_LEN_LOW..=registers::SHM_BASE_HIGH).step_by(4) {
            self.set(register, u32::MAX);
        }
        for (register, bytes) in (registers::CONFIG..).step_by(4).zip(config.chunks(4)) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.set(register, u32::from_le_bytes(word));
        }
    }

    /// Shows an empty window.
    pub(crate) fn empty(&self) {
        for register in (DEVICE_ID..WINDOW_SIZE).step_by(4) {
            self.set(register, 0);
        }
    }

    fn word(&self, register: u64) -> Option<&AtomicU32> {
        let Page(windows) = &self.all.0[self.index / PER_PAGE];
        windows[self.index % PER_PAGE].get(usize::try_from(register / 4).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_one_behind_the_other_on_whole_pages() {
        let shadows = Shadows::new(9);
        assert_eq!([shadows.size(), shadows.address().addr() % 4096], [8192, 0]);
        let start = |index: usize| {
            let word: *const AtomicU32 = shadows.window(index).word(0).unwrap();
            word.addr() - shadows.address().addr()
        };
        assert_eq!([start(0), start(1), start(8), start(15)], [0, 0x200, 0x1000, 0x1e00]);
    }

    #[test]
    fn an_empty_window_has_device_type_zero() {
        let window = Shadows::new(1).window(0);
        let read = |registers: [u64; 4]| registers.map(|register| window.read(register));
        assert_eq!(read([0, 4, 8, 0x70]), [0x7472_6976, 2, 0, 0]);
        window.fill(&[1, 2, 3, 4, 5]);
        assert_eq!(read([8, 0xb0, 0x100, 0x104]), [0, u32::MAX, 0x0403_0201, 5]);
        window.empty();
        assert_eq!(read([0, 8, 0xb0, 0x104]), [0x7472_6976, 0, 0, 0]);
        assert_eq!(window.read(WINDOW_SIZE), 0);
    }
}
