use super::*;

#[test]
fn attributes_are_encoded_as_the_format_says() {
    let mut xattrs = Xattrs::default();
    xattrs.set(b"user.b", &[0, 1]).unwrap();
    xattrs.set(b"system.posix_acl_access", b"acl").unwrap();
    xattrs.set(b"user.a", b"").unwrap();
    let expected = [
        &[1, 1, 0, 0, b'a', 0, 0, 0][..],
        &[1, 1, 2, 0, b'b', 0, 1, 0],
        &[0, 2, 3, 0, b'a', b'c', b'l', 0],
    ];
    assert_eq!(&*xattrs.encode(), expected.concat());
    assert_eq!(xattrs.bytes, 24);
}

#[test]
fn the_size_behind_an_inode_counts_the_header_once() {
    assert_eq!((body_size(&[]), count(&[]), header(&[]).len()), (0, 0, 0));
    let entries = [0; 24];
    assert_eq!((body_size(&entries), count(&entries), header(&entries).len()), (36, 7, 12));
}

#[test]
fn names_that_erofs_has_no_index_for_are_refused() {
    let set = |name: &[u8]| Xattrs::default().set(name, b"x").is_ok();
    let longest = [b"user.".as_slice(), &[b'n'; 250]].concat();
    assert!(set(&longest) && set(b"security.capability") && set(b"trusted.x"));
    assert!(!set(&[longest.as_slice(), b"n"].concat()));
    for name in [&b"user."[..], b"user", b"", b"system.posix_acl_accessx", b"system.x", b"lustre.x"]
    {
        assert!(!set(name), "{}", name.escape_ascii());
    }
    assert!(!set(b"user.a\0b"));
}

#[test]
fn sizes_are_bounded() {
    let mut xattrs = Xattrs::default();
    assert!(xattrs.set(b"user.a", &[1; 65_536]).is_err());
    for name in [b"user.a", b"user.b", b"user.c"] {
        xattrs.set(name, &[1; 65_535]).unwrap();
    }
    assert!(xattrs.set(b"user.d", &[1; 65_535]).is_err());
    // What is refused takes no room, and a new value takes that of the old one.
    xattrs.set(b"user.c", b"").unwrap();
    xattrs.set(b"user.d", &[1; 65_488]).unwrap();
    xattrs.set(b"user.c", &[1; 65_488]).unwrap();
    assert!(xattrs.bytes <= MAX_BYTES);
    let most = with_overlay(&vec![0; MAX_BYTES], true, true).into_owned();
    assert_eq!(usize::from(count(&most)), 1 + most.len() / 4);
    assert_eq!(count(&most), u16::MAX);
}

#[test]
fn overlay_attributes_are_taken_out_and_put_back() {
    let mut xattrs = Xattrs::default();
    xattrs.set(b"trusted.overlay.opaque", b"y").unwrap();
    xattrs.set(b"trusted.overlay.origin", b"a handle").unwrap();
    xattrs.set(b"user.overlay.opaque", b"y").unwrap();
    assert!(xattrs.take_overlay());
    assert!(!xattrs.take_overlay());
    assert_eq!(xattrs.bytes, xattrs.encode().len());
    let own = xattrs.encode();
    assert_eq!(with_overlay(&own, false, false), &*own);
    let with_both = with_overlay(&own, true, true);
    let added = with_both.strip_prefix(&*own).unwrap();
    assert_eq!(added.len(), 40);
    assert!(added.starts_with(b"\x0e\x04\x01\0overlay.opaquey\0"));
    assert!(added.ends_with(b"\x0e\x04\0\0overlay.origin\0\0"));
}
