//! Our own CRI server, `cuddyd`: what a kubelet asks of a node's pods and images, without
//! containerd and without CRI-O.

pub mod spec;
