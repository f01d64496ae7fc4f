use super::*;

const UNICAST_MAIN: [u8; 12] = [AF_INET, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];

fn object(kind: Kind, header: &[u8], attributes: Attributes) -> Object {
    Object { kind, header: header.to_vec(), attributes }
}

fn route(header: [u8; 12], attributes: Attributes) -> Object {
    object(Kind::Route, &header, attributes)
}

/// RTA_METRICS with mtu, advmss, window, rtt, initcwnd, hoplimit, features, quickack, cc algorithm.
fn metrics() -> Attributes {
    let numbers = [(2, 1400), (8, 1360), (3, 65000), (4, 80), (11, 20), (10, 9), (12, 1), (15, 1)];
    let numbers = numbers.iter().fold(Attributes::default(), |all, &(k, v)| all.with_number(k, v));
    numbers.with_text(16, "bbr")
}

#[test]
fn every_attribute_of_a_route_survives_but_its_states() {
    let mut header = UNICAST_MAIN;
    // linkdown, onlink, offload
    header[8..].copy_from_slice(&(0x10_u32 | 0x4 | 0x8).to_ne_bytes());
    let chosen = Attributes::default()
        .with(1, &[10, 1, 2, 0])
        .with_number(4, 7)
        .with(5, &[10, 0, 0, 1])
        .with_number(6, 50)
        .with(7, &[10, 0, 0, 9])
        .with_nested(8, &metrics())
        .with(20, &[1]);
    let given = chosen.clone().with(12, &[0; 32]).with_number(30, 4);
    let canonical = route(header, given).canonical().unwrap();
    assert_eq!(canonical.attributes, chosen);
    assert_eq!(canonical.number(8), 4, "only onlink is chosen");
    assert_eq!(Object::parse(Kind::Route, &canonical.to_bytes()), Some(canonical.clone()));
    assert_eq!(canonical.attributes.nested(8).unwrap().text(16).as_deref(), Some("bbr"));
    assert_eq!((canonical.interfaces(), canonical.distance()), (vec![7], 1));
}

#[test]
fn what_kernels_and_routers_make_is_left_out() {
    let with = |at: usize, value: u8, at2: usize, value2: u8| {
        let mut header = UNICAST_MAIN;
        (header[at], header[at2]) = (value, value2);
        route(header, Attributes::default()).canonical()
    };
    assert_eq!(with(4, 255, 5, 2), None, "local table");
    assert_eq!(with(5, 2, 7, 3), None, "broadcast");
    assert_eq!(with(5, 9, 5, 9), None, "router advertisement");
    assert!(with(5, 2, 7, 1).is_some(), "connected route");
    assert!(with(4, 255, 5, 4).is_some(), "chosen route of the local table");
}

#[test]
fn routes_of_tunnels_are_known() {
    let wrapped = |attributes| route(UNICAST_MAIN, attributes).canonical().unwrap().is_wrapped();
    assert!(wrapped(Attributes::default().with(22, &[1])));
    assert!(!wrapped(Attributes::default()));
}

#[test]
fn every_next_hop_is_translated_or_the_route_is_not() {
    let mut hops = Vec::new();
    for (index, flags) in [(3_u32, 4_u8), (4, 0x14)] {
        hops.extend_from_slice(&16_u16.to_ne_bytes());
        hops.extend_from_slice(&[flags, 9]);
        hops.extend_from_slice(&index.to_ne_bytes());
        hops.extend_from_slice(&Attributes::default().with(5, &[10, 0, 0, 1]).to_bytes());
    }
    let given = route(UNICAST_MAIN, Attributes::default().with(9, &hops)).canonical().unwrap();
    assert_eq!(given.interfaces(), [3, 4]);
    let moved = given.clone().translated(&|index| Some(index + 10)).unwrap();
    assert_eq!(moved.interfaces(), [13, 14]);
    assert_eq!(moved.attributes.get(9).unwrap()[18], 4, "the second hop's state is gone");
    assert_eq!(given.distance(), 2);
    assert_eq!(given.translated(&|index| (index == 3).then_some(1)), None);
}

#[test]
fn address_keeps_what_was_chosen() {
    // noprefixroute, permanent, tentative
    let flags = 0x200 | 0x80 | 0x40;
    let attributes = Attributes::default()
        .with(1, &[10, 0, 0, 1])
        .with(2, &[10, 0, 0, 9])
        .with(4, &[10, 0, 0, 255])
        .with_text(3, "eth0")
        .with_number(8, flags)
        .with(6, &[0xff; 16]);
    let given = object(Kind::Address, &[AF_INET, 24, 0x80, 0, 7, 0, 0, 0], attributes);
    let canonical = given.canonical().unwrap();
    assert_eq!(canonical.attributes.number(8), Some(0x200));
    assert_eq!((canonical.byte(2), canonical.interfaces()), (0, vec![7]));
    assert_eq!(canonical.attributes.get(6), None, "it lives for ever");
    assert_eq!(canonical.attributes.get(4), Some(&[10, 0, 0, 255][..]));
    let translated = canonical.translated(&|_| Some(2)).unwrap();
    assert_eq!(translated.interfaces(), [2]);
}

#[test]
fn addresses_of_loopback_and_routers_are_left_out() {
    let address = |family, flags, local: &[u8], proto: u8| {
        let attributes =
            Attributes::default().with(1, local).with_number(8, flags).with(11, &[proto]);
        object(Kind::Address, &[family, 64, 0, 0, 1, 0, 0, 0], attributes).canonical()
    };
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(address(AF_INET, 0x80, &[127, 0, 0, 1], 0), None);
    assert_eq!(address(AF_INET6, 0x80, &v6, 2), None);
    assert_eq!(address(AF_INET6, 0x100, &v6, 0), None);
    assert_eq!(address(AF_INET6, 0x1, &v6, 0), None);
    assert!(address(AF_INET6, 0x80, &v6, 3).is_some());
    let nodad = address::without_detection(&address(AF_INET6, 0x80, &v6, 0).unwrap());
    assert_eq!((nodad.byte(2), nodad.attributes.number(8)), (2, Some(2)));
}

#[test]
fn only_static_neighbours_and_foreign_rules_count() {
    let neighbour = |state: u16, flags: u8| {
        let [low, high] = state.to_ne_bytes();
        let header = [AF_INET, 0, 0, 0, 7, 0, 0, 0, low, high, flags, 1];
        let attributes = Attributes::default().with(1, &[10, 0, 0, 1]).with(3, &[0; 16]);
        object(Kind::Neighbour, &header, attributes).canonical()
    };
    assert_eq!(neighbour(0x2, 0), None, "reachable");
    assert_eq!(neighbour(0x40, 0), None, "without resolution");
    assert_eq!(neighbour(0x80, 0).unwrap().attributes.get(3), None);
    assert!(neighbour(0, 8).is_some(), "proxied");
    let rule = |protocol| {
        let attributes = Attributes::default().with_number(6, 100).with(21, &[protocol]);
        object(Kind::Rule, &[AF_INET, 0, 0, 0, 100, 0, 0, 1, 9, 0, 0, 0], attributes).canonical()
    };
    assert_eq!(rule(2), None);
    assert_eq!(rule(4).unwrap().number(8), 0, "an interface's absence is a state");
}

#[test]
fn objects_of_this_namespace_can_be_read() {
    let all = objects(&mut Socket::open().unwrap()).unwrap();
    for object in all {
        assert_eq!(Object::parse(object.kind(), &object.to_bytes()), Some(object.clone()));
        assert_eq!(object.clone().canonical(), Some(object), "canonical stays canonical");
    }
}
