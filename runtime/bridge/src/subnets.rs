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

/// Subnets that the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// A /16; none: one that no route leads into.
    pub v4: Option<Ipv4Net>,
    /// A /64; none: one at random. It means nothing on a node without IPv6.
    pub v6: Option<Ipv6Net>,
}

impl Wanted {
    /// Whether these subnets are as wanted.
    pub(crate) fn fits(&self, subnets: &Subnets) -> bool {
        let v6_fits = self.v6.is_none_or(|net| subnets.v6.is_none_or(|own| own == net.trunc()));
        self.v4.is_none_or(|net| net.trunc() == subnets.v4) && v6_fits
    }
}

impl Subnets {
    /// Those that are wanted. For the others, the first /16 that no route leads into, and a /64 with
    /// a random global id; no IPv6 without `random`.
    ///
    /// # Errors
    /// [`Error::NoSubnet`].
    pub(crate) fn choose(
        wanted: &Wanted,
        routes: &[IpNet],
        random: Option<[u8; 5]>,
    ) -> Result<Self, Error> {
        let free = || {
            SECOND_BYTES
                .filter_map(|byte| Ipv4Net::new(Ipv4Addr::new(10, byte, 0, 0), 16).ok())
                .find(|net| !routes.iter().any(|route| overlaps(*route, (*net).into())))
        };
        let v4 = wanted.v4.map(|net| net.trunc()).or_else(free).ok_or(Error::NoSubnet)?;
        let v6 = random.and_then(|[a, b, c, d, e]| {
            let pair = |high, low| u16::from_be_bytes([high, low]);
            let address = Ipv6Addr::new(pair(0xfd, a), pair(b, c), pair(d, e), 0, 0, 0, 0, 0);
            wanted.v6.map(|net| net.trunc()).or_else(|| Ipv6Net::new(address, 64).ok())
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
        let wanted = Wanted::default();
        let choose =
            |routes: &[IpNet]| Subnets::choose(&wanted, routes, None).map(|all| all.v4.to_string());
        assert_eq!(choose(&[net("0.0.0.0/0"), net("::/0")]).unwrap(), "10.88.0.0/16");
        assert_eq!(choose(&[net("10.88.7.0/24")]).unwrap(), "10.89.0.0/16");
        assert_eq!(choose(&[net("10.88.0.0/15"), net("10.90.1.2/32")]).unwrap(), "10.91.0.0/16");
        assert!(matches!(choose(&[net("10.0.0.0/8")]), Err(Error::NoSubnet)));
    }

    #[test]
    fn addresses_are_numbered_in_both_families() {
        let subnets = Subnets::choose(&Wanted::default(), &[], Some([1, 2, 3, 4, 5])).unwrap();
        let texts: Vec<_> = subnets.host(300).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.88.1.44/16", "fd01:203:405::12c/64"]);
        assert_eq!(subnets.gateways()[0].to_string(), "10.88.0.1/16");
    }

    #[test]
    fn wanted_subnets_are_taken_where_the_node_has_the_family() {
        let v6: Ipv6Net = "fd00:1::/64".parse().unwrap();
        let wanted = Wanted { v4: Some("172.20.1.2/16".parse().unwrap()), v6: Some(v6) };
        let all: IpNet = "172.16.0.0/12".parse().unwrap();
        let with_v6 = Subnets::choose(&wanted, &[all], Some([0; 5])).unwrap();
        assert_eq!((with_v6.v4.to_string().as_str(), with_v6.v6), ("172.20.0.0/16", Some(v6)));
        let without = Subnets::choose(&wanted, &[], None).unwrap();
        assert!(without.v6.is_none() && wanted.fits(&without) && wanted.fits(&with_v6));
        let others = Subnets::choose(&Wanted::default(), &[], Some([0; 5])).unwrap();
        assert!(!wanted.fits(&others) && Wanted::default().fits(&others));
    }
}
