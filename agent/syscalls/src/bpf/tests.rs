//! The layouts are the kernel's, and it accepts what is made of them.

use std::mem::offset_of;
use std::net::TcpListener;

use super::*;

#[test]
fn attributes_have_the_kernels_layout() {
    assert_eq!(size_of::<Instruction>(), 8);
    assert_eq!((offset_of!(MapUpdate, key), size_of::<MapUpdate>()), (8, 32));
    assert_eq!(offset_of!(ProgramLoad, log_buffer), 32);
    assert_eq!(offset_of!(ProgramLoad, name), 48);
    assert_eq!((offset_of!(ProgramLoad, expected_attach_type), size_of::<ProgramLoad>()), (68, 72));
}

#[test]
fn registers_share_a_byte() {
    let copy = Instruction::new(opcode::COPY, 6, 1, 0, 0);
    assert_eq!(copy.registers, 0x16);
}

/// Loading needs root, as the work of all users of this module does; the tests run as it.
#[test]
fn the_kernel_verifies_a_program() {
    let pass = Instruction::new(opcode::SET, 0, 0, 0, 1);
    let exit = Instruction::new(opcode::EXIT, 0, 0, 0, 0);
    let program = Program::load(Kind::SocketLookup, &[pass, exit]).unwrap();
    Program::load(Kind::CgroupDevice, &[pass, exit]).unwrap();
    let not_a_namespace = std::fs::File::open("/dev/null").unwrap();
    assert!(program.link(not_a_namespace.as_fd()).is_err());
    let no_result = Program::load(Kind::SocketLookup, &[exit]).unwrap_err();
    assert_eq!(no_result.raw_os_error(), Some(libc::EACCES));
    assert!(Program::load(Kind::SocketLookup, &[]).is_err());
}

#[test]
fn a_map_takes_as_many_listeners_as_it_has_room_for() {
    let map = SocketMap::new(1).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    map.put(0, listener.as_fd()).unwrap();
    assert!(map.put(1, listener.as_fd()).is_err());
    let [first, second] = map.load_into(1);
    assert_eq!((first.registers, first.immediate), (0x11, map.0.as_raw_fd()));
    assert_eq!(second, Instruction::new(0, 0, 0, 0, 0));
}
