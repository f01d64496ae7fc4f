//! A connection without a device.

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn guest_that_has_forgotten_a_connection_hears_no_more_of_it() {
    let (mut client, stream) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut connection = Connection::request(stream, 1024);
    assert_eq!(connection.next(&[]).map(|packet| packet.op), Some(Op::Request));
    connection.accepted(1).unwrap();
    // As much as the client's socket takes, and then as much as there is credit for.
    let mut payload = [7; 4096];
    while connection.receive(&[VolatileSlice::from(&mut payload[..])]).is_ok() {
        connection.credit().tell();
    }
    connection.closed_by_guest(true);
    assert_eq!(connection.next(&[]).map(|packet| packet.op), Some(Op::Reset));
    let mut read = Vec::new();
    while !connection.finished() {
        // It has not ended: there is no more for now.
        let _ = client.read_to_end(&mut read);
        connection.client_writable();
        assert!(!connection.has_outgoing(), "after {} bytes", read.len());
        assert_eq!(connection.next(&[]), None);
    }
}
