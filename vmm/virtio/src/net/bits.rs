//! Numbers of the specification and of Linux's tap, and how they belong together.

/// Device type (§5.1.1).
pub(super) const DEVICE_ID: u32 = 1;

/// Bytes of the header before every packet (§5.1.6).
pub(super) const HEADER: usize = 12;

/// Place of `flags` in the header.
pub(super) const HEADER_FLAGS: usize = 0;

/// Place of `num_buffers` in the header.
pub(super) const HEADER_NUM_BUFFERS: usize = 10;

/// Feature (§5.1.3): the device takes packets without their checksum.
pub(super) const F_CSUM: u64 = 1 << 0;
/// Feature: the driver takes packets without their checksum.
pub(super) const F_GUEST_CSUM: u64 = 1 << 1;
/// Feature: the driver can change its offloads while the device is active.
pub(super) const F_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
/// Feature: the device says how large packets may be.
pub(super) const F_MTU: u64 = 1 << 3;
/// Feature: the device says its hardware address.
pub(super) const F_MAC: u64 = 1 << 5;
/// Feature: the driver takes TCP segments larger than the MTU over IPv4.
pub(super) const F_GUEST_TSO4: u64 = 1 << 7;
/// Feature: the same over IPv6.
pub(super) const F_GUEST_TSO6: u64 = 1 << 8;
/// Feature: the device takes TCP segments larger than the MTU over IPv4.
pub(super) const F_HOST_TSO4: u64 = 1 << 11;
/// Feature: the same over IPv6.
pub(super) const F_HOST_TSO6: u64 = 1 << 12;
/// Feature: a received packet may use several of the driver's buffers.
pub(super) const F_MRG_RXBUF: u64 = 1 << 15;
/// Feature: the device says whether its link is up.
pub(super) const F_STATUS: u64 = 1 << 16;
/// Feature: there is a control queue.
pub(super) const F_CTRL_VQ: u64 = 1 << 17;
/// Feature: there are several pairs of queues.
pub(super) const F_MQ: u64 = 1 << 22;
/// Indirect descriptor tables (§2.7.5.3): a packet of 17 pages takes one entry of the queue.
pub(super) const F_INDIRECT_DESC: u64 = 1 << 28;
/// Feature: the driver takes UDP packets larger than the MTU over IPv4.
pub(super) const F_GUEST_USO4: u64 = 1 << 54;
/// Feature: the same over IPv6.
pub(super) const F_GUEST_USO6: u64 = 1 << 55;
/// Feature: the device takes UDP packets larger than the MTU.
pub(super) const F_HOST_USO: u64 = 1 << 56;

/// Features whose bits are also those of the command that changes them (§5.1.6.5.6).
pub(super) const GUEST_OFFLOADS: u64 =
    F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_USO4 | F_GUEST_USO6;

/// Features with which the driver takes packets of any size.
pub(super) const GUEST_LARGE: u64 = F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_USO4 | F_GUEST_USO6;

/// Features that need a kernel from 6.2 on.
pub(super) const USO: u64 = F_GUEST_USO4 | F_GUEST_USO6 | F_HOST_USO;

/// `status` in the configuration space (§5.1.4): the link is up.
pub(super) const LINK_UP: u16 = 1;

/// What a tap's reader takes (`TUN_F_*` of `linux/if_tun.h`): packets without checksum.
const TUN_CSUM: u32 = 0x01;
/// Large TCP segments over IPv4.
const TUN_TSO4: u32 = 0x02;
/// Large TCP segments over IPv6.
const TUN_TSO6: u32 = 0x04;
/// Large UDP packets over either; Linux wants both bits or none.
const TUN_USO: u32 = 0x20 | 0x40;

/// The offloads to set on a tap for a driver with these features.
pub(super) fn tap_offloads(features: u64) -> u32 {
    let has = |wanted| features & wanted == wanted;
    // Linux refuses the others without the checksum, and the specification wants it for them.
    if !has(F_GUEST_CSUM) {
        return 0;
    }
    let offloads = [
        (F_GUEST_TSO4, TUN_TSO4),
        (F_GUEST_TSO6, TUN_TSO6),
        (F_GUEST_USO4 | F_GUEST_USO6, TUN_USO),
    ];
    let chosen = offloads.into_iter().filter(|(feature, _)| has(*feature));
    chosen.fold(TUN_CSUM, |all, (_, offload)| all | offload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_get_only_what_linux_accepts() {
        assert_eq!(tap_offloads(0), 0);
        assert_eq!(tap_offloads(F_GUEST_TSO4 | F_GUEST_TSO6), 0);
        assert_eq!(tap_offloads(F_GUEST_CSUM | F_GUEST_TSO6), 0x05);
        assert_eq!(tap_offloads(F_GUEST_CSUM | F_GUEST_USO4), 0x01);
        assert_eq!(tap_offloads(u64::MAX), 0x67);
    }
}
