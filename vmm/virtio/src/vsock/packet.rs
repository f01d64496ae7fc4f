//! Wire layout of socket packets (§5.10.6).
//!
//! The `virtio-vsock` crate does not parse them, because it takes the payload from one descriptor
//! only. Newer guests cut the payload into pages, which §2.7.4 allows.

/// Bytes of a header; the payload follows at once.
pub(super) const HEADER: usize = 44;

/// Context identifier of the host (§5.10.4).
pub(super) const HOST_CID: u64 = 2;

/// The type of stream sockets, the only one here (§5.10.6.4).
pub(super) const TYPE_STREAM: u16 = 1;

/// Flag of [`Op::Shutdown`]: the sender won't receive any more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// Flag of [`Op::Shutdown`]: the sender won't send any more.
pub(super) const SHUTDOWN_SEND: u32 = 2;
/// Both flags: the sender has closed.
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for (§5.10.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts a connection.
    Response,
    /// Refuses or ends a connection.
    Reset,
    /// Ends one or both directions of a connection.
    Shutdown,
    /// Carries data.
    Data,
    /// Only carries the credit fields, which every packet has.
    CreditUpdate,
    /// Asks for a [`Op::CreditUpdate`].
    CreditRequest,
    /// Anything else.
    Unknown(u16),
}

impl Op {
    fn parse(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
            Self::Unknown(other) => other,
        }
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Context identifier of the sender.
    pub(super) source_cid: u64,
    /// Context identifier of the receiver.
    pub(super) destination_cid: u64,
    /// The sender's port.
    pub(super) source_port: u32,
    /// The receiver's port.
    pub(super) destination_port: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    /// Socket type.
    pub(super) kind: u16,
    /// What the packet is for.
    pub(super) op: Op,
    /// Depends on `op`.
    pub(super) flags: u32,
    /// Bytes of buffer that the sender has for this connection.
    pub(super) buffer_size: u32,
    /// Bytes, modulo 2^32, that the sender has taken out of that buffer so far.
    pub(super) forwarded: u32,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        Self {
            source_cid: u64::from_le_bytes(field(&bytes, 0)),
            destination_cid: u64::from_le_bytes(field(&bytes, 8)),
            source_port: u32::from_le_bytes(field(&bytes, 16)),
            destination_port: u32::from_le_bytes(field(&bytes, 20)),
            len: u32::from_le_bytes(field(&bytes, 24)),
            kind: u16::from_le_bytes(field(&bytes, 28)),
            op: Op::parse(u16::from_le_bytes(field(&bytes, 30))),
            flags: u32::from_le_bytes(field(&bytes, 32)),
            buffer_size: u32::from_le_bytes(field(&bytes, 36)),
            forwarded: u32::from_le_bytes(field(&bytes, 40)),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(0, &self.source_cid.to_le_bytes());
        put(8, &self.destination_cid.to_le_bytes());
        put(16, &self.source_port.to_le_bytes());
        put(20, &self.destination_port.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &self.kind.to_le_bytes());
        put(30, &self.op.number().to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buffer_size.to_le_bytes());
        put(40, &self.forwarded.to_le_bytes());
        bytes
    }
}

/// The `N` bytes at `offset`.
fn field<const N: usize>(bytes: &[u8; HEADER], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let mut bytes = [0; HEADER];
        for (number, byte) in (0..).zip(&mut bytes) {
            *byte = number;
        }
        assert_eq!(Header::parse(bytes).bytes(), bytes);
        for number in 0..9 {
            assert_eq!(Op::parse(number).number(), number);
        }
    }
}
