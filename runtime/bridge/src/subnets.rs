//! Which subnets pods get their addresses from. This module is pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Second bytes of 10.0.0.0/8 that are tried: those of the peers' default networks and after.
const SECOND_BYTES: std::ops::RangeInclusive<u8> = 88..=127;

/// The subnets of a bridge. The first address of each is the bridge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnets {
    /// A /16.
    pub v4: Ipv4Net,
    /// A unique local /64 (RFC 4193); none on a node without IPv6.
    pub v6: Option<Ipv6Net>,
}

impl Subnets {
    /// The first /16 that no route leads into, and a /64 with a random global id.
    ///
    /// # Errors
    /// [`Error::NoSubnet`].
    pub(crate) fn choose(routes: &[IpNet], random: Option<[u8; 5]>) -> Result<Self, Error> {
        let candidates = SECOND_BYTES
            .filter_map(|byte| Ipv4Net::new(Ipv4Addr::new(10, byte, 0, 0), 16).ok())
            .find(|net| !routes.iter().any(|route| overlaps(*route, (*net).into())));
        let v4 = candidates.ok_or(Error::NoSubnet)?;
        let v6 = random.and_then(|[a, b, c, d, e]| {
            let pair = |high, low| u16::from_be_bytes([high, low]);
            let address = Ipv6Addr::new(pair(0xfd, a), pair(b, c), pair(d, e), 0, 0, 0, 0, 0);
            Ipv6Net::new(address, 64).ok()
        });
        Ok(Self { v4, v6 })
    }

    /// The bridge's own addresses.
    pub fn gateways(&self) -> Vec<IpNet> {
        self.host(1)
    }

    /// The addresses of a host by its number, with their prefixes.
    pub(crate) fn host(&self, number: u16) -> Vec<IpNet> {
        let v4 = Ipv4Addr::from(u32::from(self.v4.network()) + u32::from(number));
        let v4 = IpNet::new(IpAddr::V4(v4), self.v4.prefix_len()).ok();
        let v6 = self.v6.and_then(|net| {
            let address = Ipv6Addr::from(u128::from(net.network()) + u128::from(number));
            IpNet::new(IpAddr::V6(address), net.prefix_len()).ok()
        });
        [v4, v6].into_iter().flatten().collect()
    }
}

/// Whether two networks have an address in common. The default route is in nobody's way.
fn overlaps(one: IpNet, other: IpNet) -> bool {
    one.prefix_len() > 0 && (one.contains(&other) || other.contains(&one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_the_node_are_avoided() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let choose = |routes: &[IpNet]| Subnets::choose(routes, None).map(|all| all.v4.to_string());
        assert_eq!(choose(&[net("0.0.0.0/0"), net("::/0")]).unwrap(), "10.88.0.0/16");
        assert_eq!(choose(&[net("10.88.7.0/24")]).unwrap(), "10.89.0.0/16");
        assert_eq!(choose(&[net("10.88.0.0/15"), net("10.90.1.2/32")]).unwrap(), "10.91.0.0/16");
        assert!(matches!(choose(&[net("10.0.0.0/8")]), Err(Error::NoSubnet)));
    }

    #[test]
    fn addresses_are_numbered_in_both_families() {
        let subnets = Subnets::choose(&[], Some([1, 2, 3, 4, 5])).unwrap();
        let texts: Vec<_> = subnets.host(300).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.88.1.44/16", "fd01:203:405::12c/64"]);
        assert_eq!(subnets.gateways()[0].to_string(), "10.88.0.1/16");
    }
}
