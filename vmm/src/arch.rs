//! What differs between processor architectures: the address map, what a vCPU looks like and
//! how a kernel is entered. One module per architecture, all with the same public items.

pub(crate) mod x86_64;
