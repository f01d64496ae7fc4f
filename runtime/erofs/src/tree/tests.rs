use super::*;
use crate::meta::Meta;

fn fifo(tree: &mut Tree, path: &[u8]) {
    let spot = tree.spot(path).unwrap();
    tree.put(spot, Meta::default().into(), Body::Special(Special::Fifo)).unwrap();
}

#[test]
fn slots_of_what_was_removed_are_used_again() {
    let mut tree = Tree::new(&Limits::default());
    for _ in 0..1000 {
        fifo(&mut tree, b"a/b");
        fifo(&mut tree, b"a/c");
        fifo(&mut tree, b"d");
        let spot = tree.spot(b"a/c").unwrap();
        let id = tree.find(b"d").unwrap().unwrap();
        tree.link(spot, id).unwrap();
        fifo(&mut tree, b"a");
        tree.set_directory(b"a", Meta::default().into(), false).unwrap();
    }
    // The root, what is there at a time, and what replaces it.
    assert!(tree.slots() <= 6, "{}", tree.slots());
    assert_eq!(tree.free.len(), tree.slots() - 3);
}
