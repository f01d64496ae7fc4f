//! Bytes that a text writes as a mark and a number, so that they don't end a word. Examples are
//! `\040` in the kernel's tables and `%20` in a URL. This module is pure.

/// Replaces every `mark` that so many digits of a `radix` follow by the byte that they number;
/// what is not such an escape stays as it is.
pub fn undo(mut text: &[u8], mark: u8, digits: usize, radix: u32) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let code = rest.get(..digits).filter(|_| *first == mark);
        match code.and_then(|code| number(code, radix)) {
            Some(byte) => {
                plain.push(byte);
                text = &rest[digits..];
            }
            None => {
                plain.push(*first);
                text = rest;
            }
        }
    }
    plain
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let add = |sum: u32, digit: &u8| Some(sum * radix + char::from(*digit).to_digit(radix)?);
    digits.iter().try_fold(0, add)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::undo;

    #[test]
    fn whole_escapes_become_bytes_and_nothing_else_does() {
        assert_eq!(undo(br"a\040b\134", b'\\', 3, 8), br"a b\");
        assert_eq!(undo(b"%41%2f%2F%ff", b'%', 2, 16), b"A//\xff");
        for kept in [&br"\04"[..], br"\400", br"\0x1", br"\", br"\+40"] {
            assert_eq!(undo(kept, b'\\', 3, 8), kept);
        }
        assert_eq!(undo(b"%+1%4", b'%', 2, 16), b"%+1%4");
    }
}
