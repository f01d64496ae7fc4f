//! A socket device that is parked, and goes on with a listener of its own.

use std::time::Instant;

use super::*;
use crate::device::ParkError;
use crate::mmio::TransportState;

/// What a device has come to with a queue.
fn place(state: &TransportState, queue: usize) -> (u64, u64) {
    let json = serde_json::to_value(state).unwrap();
    let place = &json["parked"]["positions"][queue];
    (place["next_avail"].as_u64().unwrap(), place["next_used"].as_u64().unwrap())
}

/// Parks the device once it has seen that its clients are gone.
fn park(guest: &mut Guest) -> TransportState {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match guest.driver.transport.park() {
            Ok(state) => return state,
            Err(ParkError::Busy { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The guest's driver with a new device.
fn moved(mut guest: Guest) -> Guest {
    let state = park(&mut guest);
    guest.driver.transport.unpark(&state);
    guest.socket.set_extension(format!("after{}", guest.driver.mark()));
    guest.driver = guest.driver.moved_to(device(&guest.socket, &guest.ready));
    guest
}

#[test]
fn an_open_connection_is_not_saved_and_not_harmed() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    for _ in 0..3 {
        let error = guest.driver.transport.park().unwrap_err();
        assert!(error.to_string().contains("a connection is open"), "{error}");
        client.write_all(b"ping").unwrap();
        let (header, payload) = guest.receive();
        assert_eq!((header.op, &payload[..]), (Op::Data, &b"ping"[..]));
    }
    guest.send(Op::Data, port, 0, b"pong");
    guest.send(Op::Shutdown, port, SHUTDOWN_BOTH, &[]);
    assert_eq!(rest(&mut client), b"pong");
}

#[test]
fn a_client_that_has_not_said_where_it_wants_to_go_counts() {
    let mut guest = Guest::new(8);
    let mut client = guest.client();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Up to the moment at which the device has accepted it.
    while let Ok(state) = guest.driver.transport.park() {
        guest.driver.transport.unpark(&state);
        assert!(Instant::now() < deadline);
    }
    client.write_all(b"CONNECT 1024\n").unwrap();
    guest.expect(Op::Request);
}

#[test]
fn buffers_that_were_taken_and_not_used_are_put_back() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    client.write_all(b"ping").unwrap();
    guest.expect(Op::Data);
    guest.send(Op::Shutdown, port, SHUTDOWN_BOTH, &[]);
    guest.expect(Op::Reset);
    drop(client);
    let state = park(&mut guest);
    let (next_avail, next_used) = place(&state, RECEIVE);
    assert_eq!((next_avail, next_used), (3, 3), "a request, a packet and a reset were received");
}

#[test]
fn new_clients_are_served_under_ports_that_the_guest_has_not_seen() {
    let mut guest = Guest::new(8);
    let mut ports = Vec::new();
    for _ in 0..3 {
        let (client, port) = guest.connect();
        guest.send(Op::Shutdown, port, SHUTDOWN_BOTH, &[]);
        guest.expect(Op::Reset);
        drop(client);
        ports.push(port);
        guest = moved(guest);
    }
    let (mut client, port) = guest.connect();
    ports.push(port);
    assert!(ports.windows(2).all(|pair| pair[0] < pair[1]), "{ports:?}");
    client.write_all(b"ping").unwrap();
    let (header, payload) = guest.receive();
    assert_eq!((header.op, &payload[..]), (Op::Data, &b"ping"[..]));
}

#[test]
fn a_port_from_a_file_is_taken_only_if_clients_get_such() {
    let mut mux = Mux::new(CID, READY);
    let first = mux.next_port().unwrap();
    for wrong in [0, READY, first - 1, u32::MAX] {
        mux.go_on_from(wrong);
        assert_eq!(mux.next_port(), Some(first));
    }
    mux.go_on_from(first + 7);
    assert_eq!(mux.next_port(), Some(first + 7));
}
