//! All that reads what a shim writes, for a fuzzer.

use containerd_shim_protos::shim::event::Envelope;
use protobuf::Message;

use crate::endpoint::Endpoint;
use crate::events::Published;
use crate::runtime::{self, Info};
use crate::text::printable;

/// Takes `bytes` for each thing that a shim may write; what people are told of it.
///
/// # Panics
/// When an endpoint that was read is not the same once it was written and read again.
pub fn read(bytes: &[u8]) -> Vec<String> {
    let mut texts = vec![printable(&String::from_utf8_lossy(bytes))];
    match Endpoint::parse(bytes) {
        Ok(endpoint) => {
            texts.push(endpoint.address());
            assert_eq!(Endpoint::parse(endpoint.json().as_bytes()), Ok(endpoint));
        }
        Err(error) => texts.push(error.to_string()),
    }
    drop((runtime::exit(bytes), Info::parse(bytes)));
    drop(Envelope::parse_from_bytes(bytes).map(Published::new));
    texts
}
