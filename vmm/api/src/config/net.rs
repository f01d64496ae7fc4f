//! Configuration of a network device.

use serde::{Deserialize, Serialize};

use super::{ConfigError, FdSlot};

/// Most queue pairs of a network device: as many descriptors, twice that with vhost, still fit
/// into one message beside those of a whole machine.
pub const MAX_QUEUE_PAIRS: usize = 16;

/// Least MTU that the specification allows (virtio 1.3 §5.1.4).
pub const MIN_MTU: u16 = 68;

/// Bit of a hardware address's first byte: it stands for a group of stations, not for one.
const MULTICAST: u8 = 1;

/// A network device (virtio 1.3 §5.1) between the guest and taps of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawNetConfig", into = "RawNetConfig")]
pub struct NetConfig {
    mac: [u8; 6],
    mtu: u16,
    queues: Vec<FdSlot>,
    vhost: Vec<FdSlot>,
}

impl NetConfig {
    /// A device with the hardware address `mac`, which tells its driver to use `mtu` (68 to
    /// 65535 bytes).
    ///
    /// `queues` are tap descriptors, one for each of 1 to 16 queue pairs, made with `IFF_TAP`,
    /// `IFF_NO_PI` and `IFF_VNET_HDR`, more than one with `IFF_MULTI_QUEUE` as well, and with a
    /// header of 12 bytes (`TUNSETVNETHDRSZ`). Offloads are set by the VMM as its driver takes
    /// them (`TUNSETOFFLOAD`), and so are the queues in use (`TUNSETQUEUE`). All of them are
    /// queues of the same tap and of nobody else.
    ///
    /// `vhost` is empty, and the VMM moves packets itself, or has one descriptor of
    /// `/dev/vhost-net` for each queue pair, freshly opened, and the host's kernel does.
    ///
    /// # Errors
    /// [`ConfigError::Net`] if a value is out of its range or the numbers of descriptors differ.
    pub fn new(
        mac: [u8; 6],
        mtu: u16,
        queues: Vec<FdSlot>,
        vhost: Vec<FdSlot>,
    ) -> Result<Self, ConfigError> {
        if mac == [0; 6] || mac[0] & MULTICAST != 0 {
            return Err(ConfigError::Net("hardware address is zero or a group's"));
        }
        if mtu < MIN_MTU {
            return Err(ConfigError::Net("MTU is below 68"));
        }
        if !(1..=MAX_QUEUE_PAIRS).contains(&queues.len()) {
            return Err(ConfigError::Net("number of taps is not between 1 and 16"));
        }
        if !vhost.is_empty() && vhost.len() != queues.len() {
            return Err(ConfigError::Net("number of vhost descriptors is not that of taps"));
        }
        Ok(Self { mac, mtu, queues, vhost })
    }

    /// The device's hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Largest packet without its Ethernet header, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Taps, one for each queue pair.
    pub fn queues(&self) -> &[FdSlot] {
        &self.queues
    }

    /// Descriptors of `/dev/vhost-net`, none or one for each queue pair.
    pub fn vhost(&self) -> &[FdSlot] {
        &self.vhost
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetConfig {
    mac: [u8; 6],
    mtu: u16,
    queues: Vec<FdSlot>,
    vhost: Vec<FdSlot>,
}

impl TryFrom<RawNetConfig> for NetConfig {
    type Error = ConfigError;

    fn try_from(raw: RawNetConfig) -> Result<Self, ConfigError> {
        Self::new(raw.mac, raw.mtu, raw.queues, raw.vhost)
    }
}

impl From<NetConfig> for RawNetConfig {
    fn from(config: NetConfig) -> Self {
        let NetConfig { mac, mtu, queues, vhost } = config;
        Self { mac, mtu, queues, vhost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn values_out_of_range_are_refused_from_the_wire_too() {
        let slots = |count| (0..count).map(FdSlot).collect::<Vec<_>>();
        assert!(NetConfig::new(MAC, 1500, slots(1), Vec::new()).is_ok());
        assert!(NetConfig::new(MAC, 65535, slots(16), slots(16)).is_ok());
        assert!(NetConfig::new([0; 6], 1500, slots(1), Vec::new()).is_err());
        assert!(NetConfig::new([1, 0, 0, 0, 0, 1], 1500, slots(1), Vec::new()).is_err());
        assert!(NetConfig::new(MAC, 67, slots(1), Vec::new()).is_err());
        assert!(NetConfig::new(MAC, 1500, Vec::new(), Vec::new()).is_err());
        assert!(NetConfig::new(MAC, 1500, slots(17), Vec::new()).is_err());
        assert!(NetConfig::new(MAC, 1500, slots(2), slots(1)).is_err());
        let raw = serde_json::json!({ "mac": MAC, "mtu": 67, "queues": [0], "vhost": [] });
        assert!(serde_json::from_value::<NetConfig>(raw).is_err());
        let raw = serde_json::json!({ "mac": MAC, "mtu": 68, "queues": [0], "vhost": [1] });
        let config: NetConfig = serde_json::from_value(raw.clone()).unwrap();
        assert_eq!(serde_json::to_value(config).unwrap(), raw);
    }
}
