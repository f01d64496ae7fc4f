//! Blocks of names and values, compressed with one state per direction for the whole connection
//! (the SPDY protocol, draft 3, section 2.6.10).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;

/// Most bytes of a block once it is inflated.
pub(super) const MOST: usize = 64 << 10;

/// Names in lower case, and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of `name`, which is looked for without regard to case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut same = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        same.next().map(|(_, value)| value.split('\0').next().unwrap_or_default())
    }

    fn parse(block: &[u8]) -> Option<Self> {
        let mut rest = block;
        let count = number(&mut rest)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut rest)?.to_lowercase();
            headers.push((name, text(&mut rest)?));
        }
        rest.is_empty().then_some(Self(headers))
    }
}

#[cfg(any(test, fuzzing))]
impl FromIterator<(String, String)> for Headers {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(headers: T) -> Self {
        Self(headers.into_iter().collect())
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// A block that can't be read. After one, no other block of its connection can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeaders {
    #[error("headers are not compressed as agreed")]
    Compression,
    #[error("headers are longer than 65536 bytes")]
    Length,
    #[error("headers are not names and values")]
    Content,
}

/// The client's half of the compression.
#[derive(Debug)]
pub(super) struct Inflater {
    state: Decompress,
    block: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { state: Decompress::new(true), block: Vec::new() }
    }

    /// Reads one block.
    pub(super) fn read(&mut self, compressed: &[u8]) -> Result<Headers, BadHeaders> {
        self.block.clear();
        self.inflate(compressed)?;
        let headers = Headers::parse(&self.block);
        // A large block leaves no memory behind.
        self.block.shrink_to(4096);
        headers.ok_or(BadHeaders::Content)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<(), BadHeaders> {
        let start = self.state.total_in();
        let mut piece = [0; 4096];
        loop {
            let used = usize::try_from(self.state.total_in() - start).unwrap_or(usize::MAX);
            let input = compressed.get(used..).unwrap_or_default();
            let before = self.state.total_out();
            let done = self.state.decompress(input, &mut piece, FlushDecompress::Sync);
            let made = usize::try_from(self.state.total_out() - before).unwrap_or(usize::MAX);
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.state.set_dictionary(DICTIONARY);
                    set.map_err(|_| BadHeaders::Compression)?;
                    continue;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(BadHeaders::Compression),
                Ok(Status::Ok | Status::BufError) => {}
            }
            self.block.extend_from_slice(piece.get(..made).unwrap_or_default());
            if self.block.len() > MOST {
                return Err(BadHeaders::Length);
            }
            // With room left, all that the input makes was made.
            if made < piece.len() {
                break;
            }
        }
        let used = usize::try_from(self.state.total_in() - start).unwrap_or(0);
        if used == compressed.len() { Ok(()) } else { Err(BadHeaders::Compression) }
    }
}

/// The server's half of the compression.
#[derive(Debug)]
pub(crate) struct Deflater(Compress);

impl Deflater {
    /// # Errors
    /// When the library refuses the dictionary, which it has no reason for.
    pub(crate) fn new() -> Result<Self, BadHeaders> {
        let mut state = Compress::new(Compression::fast(), true);
        state.set_dictionary(DICTIONARY).map_err(|_| BadHeaders::Compression)?;
        Ok(Self(state))
    }

    /// A compressed block.
    pub(crate) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, BadHeaders> {
        let mut block = Vec::new();
        let length = |length: usize| u32::try_from(length).map_err(|_| BadHeaders::Length);
        block.extend_from_slice(&length(headers.0.len())?.to_be_bytes());
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&length(text.len())?.to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        // A block that does not compress grows by little; the flush adds a few bytes.
        let mut compressed = Vec::with_capacity(block.len() + block.len() / 8 + 64);
        let done = self.0.compress_vec(&block, &mut compressed, FlushCompress::Sync);
        match done {
            Ok(_) if compressed.len() < compressed.capacity() => Ok(compressed),
            _ => Err(BadHeaders::Compression),
        }
    }
}

#[cfg(test)]
mod tests;
