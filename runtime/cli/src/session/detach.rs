//! The keys that leave a container alone: Ctrl-P Ctrl-Q (pure).

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// What was pressed so far.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Ctrl-P was, and has not been sent.
    begun: bool,
}

impl Keys {
    /// Takes input. Returns what of it is for the process, and whether the user leaves.
    pub(super) fn take(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut content = Vec::with_capacity(input.len());
        for &key in input {
            match (self.begun, key) {
                (true, CTRL_Q) => return (content, true),
                (true, CTRL_P) => content.push(CTRL_P),
                (true, _) => {
                    content.extend([CTRL_P, key]);
                    self.begun = false;
                }
                (false, CTRL_P) => self.begun = true,
                (false, _) => content.push(key),
            }
        }
        (content, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_keys_in_a_row_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"a\x11b"), (b"a\x11b".to_vec(), false));
        assert_eq!(keys.take(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.take(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(keys.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.take(b"\x11rest"), (Vec::new(), true));
    }
}
