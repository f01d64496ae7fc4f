//! What a network's plugins have made, as ADD answers it (specification, section 5, and that of
//! 0.2.0). This module is pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pod::Dns;
use crate::text::quoted;
use crate::version::Version;

/// Most interfaces, addresses and routes of a result, each.
const MAX_ITEMS: usize = 1024;

/// What ADD has made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkResult {
    /// Interfaces, in the pod's namespace and outside of it.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes of the pod.
    pub routes: Vec<Route>,
    /// How the network wants names to be looked up.
    pub dns: Dns,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as the plugin wrote it.
    #[serde(default)]
    pub mac: String,
    /// The path of the network namespace that it is in; empty for the node's own.
    #[serde(default)]
    pub sandbox: String,
    /// Its largest packet in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// It, with the length of its network's prefix.
    pub address: IpNet,
    /// The router of its network.
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it; none if the plugin does not say.
    pub interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; that of the address's network if there is none.
    pub gateway: Option<IpAddr>,
    /// Largest packet in bytes (1.1.0).
    pub mtu: Option<u32>,
    /// Largest segment of TCP that peers are told, in bytes (1.1.0).
    pub advmss: Option<u32>,
    /// Its rank: less is better (1.1.0).
    pub priority: Option<u32>,
    /// The kernel's number of its table (1.1.0).
    pub table: Option<u32>,
    /// The kernel's number of its scope (1.1.0).
    pub scope: Option<u32>,
}

#[derive(Deserialize, Default)]
struct RawResult {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<RawAddress>>,
    #[serde(default)]
    routes: Option<Vec<RawRoute>>,
    #[serde(default)]
    dns: Option<Dns>,
    #[serde(default)]
    ip4: Option<RawFamily>,
    #[serde(default)]
    ip6: Option<RawFamily>,
}

#[derive(Deserialize)]
struct RawAddress {
    address: String,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    interface: Option<usize>,
}

/// All of a family, before 0.3.0.
#[derive(Deserialize)]
struct RawFamily {
    ip: String,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    routes: Option<Vec<RawRoute>>,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: String,
    #[serde(default)]
    gw: Option<String>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    advmss: Option<u32>,
    #[serde(default)]
    priority: Option<u32>,
    #[serde(default)]
    table: Option<u32>,
    #[serde(default)]
    scope: Option<u32>,
}

impl NetworkResult {
    /// Reads what a plugin answered.
    ///
    /// # Errors
    /// What is wrong, and in which field.
    pub(crate) fn parse(answer: &Map<String, Value>) -> Result<Self, String> {
        let version = version_of(answer)?.unwrap_or(Version::LISTS);
        let raw: RawResult = serde_json::from_value(Value::Object(answer.clone()))
            .map_err(|error| quoted(&error.to_string()))?;
        let mut result = if version < Version::LISTS { raw.by_family()? } else { raw.by_lists()? };
        result.dns = raw.dns.unwrap_or_default();
        result.bounded()
    }

    fn bounded(self) -> Result<Self, String> {
        let counts = [
            ("interfaces", self.interfaces.len()),
            ("ips", self.addresses.len()),
            ("routes", self.routes.len()),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count > MAX_ITEMS) {
            return Err(format!("{field}: there are more than {MAX_ITEMS}"));
        }
        Ok(self)
    }

    /// The addresses by which a pod is reached: those of its interface of this name, and those of
    /// which the plugin does not say whose they are. The first of IPv4 comes first, as kubelet
    /// gets it from containerd.
    ///
    /// An interface without a namespace is one of the node, whatever its name.
    pub fn pod_addresses(&self, interface: &str) -> Vec<IpAddr> {
        let is_pods = |address: &&Address| match address.interface {
            None => true,
            Some(index) => self
                .interfaces
                .get(index)
                .is_some_and(|own| own.name == interface && !own.sandbox.is_empty()),
        };
        let pods = self.addresses.iter().filter(is_pods);
        let mut all: Vec<IpAddr> = pods.map(|address| address.address.addr()).collect();
        if let Some(first) = all.iter().position(IpAddr::is_ipv4) {
            all.get_mut(..=first).unwrap_or_default().rotate_right(1);
        }
        all
    }
}

impl RawResult {
    fn by_lists(&self) -> Result<NetworkResult, String> {
        let interfaces = self.interfaces.clone().unwrap_or_default();
        let addresses = self.ips.iter().flatten().enumerate();
        let addresses = addresses.map(|(index, ip)| {
            let field = |name: &str| format!("ips[{index}].{name}");
            if let Some(number) = ip.interface.filter(|number| *number >= interfaces.len()) {
                let problem = format!("there is no interface number {number}");
                return Err(format!("{}: {problem}", field("interface")));
            }
            Ok(Address {
                address: network(&field("address"), &ip.address)?,
                gateway: address(&field("gateway"), ip.gateway.as_deref())?,
                interface: ip.interface,
            })
        });
        let addresses = addresses.collect::<Result<_, String>>()?;
        let routes = routes("routes", self.routes.as_deref().unwrap_or_default())?;
        Ok(NetworkResult { interfaces, addresses, routes, dns: Dns::default() })
    }

    fn by_family(&self) -> Result<NetworkResult, String> {
        let mut result = NetworkResult::default();
        for (name, family) in [("ip4", &self.ip4), ("ip6", &self.ip6)] {
            let Some(family) = family else { continue };
            let own = network(&format!("{name}.ip"), &family.ip)?;
            let gateway = address(&format!("{name}.gateway"), family.gateway.as_deref())?;
            result.addresses.push(Address { address: own, gateway, interface: None });
            let own = family.routes.as_deref().unwrap_or_default();
            result.routes.extend(routes(&format!("{name}.routes"), own)?);
        }
        Ok(result)
    }
}

fn routes(field: &str, all: &[RawRoute]) -> Result<Vec<Route>, String> {
    let read = |(index, route): (usize, &RawRoute)| {
        Ok(Route {
            destination: network(&format!("{field}[{index}].dst"), &route.dst)?,
            gateway: address(&format!("{field}[{index}].gw"), route.gw.as_deref())?,
            mtu: route.mtu,
            advmss: route.advmss,
            priority: route.priority,
            table: route.table,
            scope: route.scope,
        })
    };
    all.iter().enumerate().map(read).collect()
}

fn network(field: &str, text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| format!("{field}: '{}' is no address with a prefix", quoted(text)))
}

/// An address that may be missing, which some plugins write as an empty text.
fn address(field: &str, text: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |_| format!("{field}: '{}' is no address", quoted(text));
    text.parse().map(Some).map_err(wrong)
}

fn version_of(answer: &Map<String, Value>) -> Result<Option<Version>, String> {
    let wrong = |problem: String| format!("cniVersion: {problem}");
    let text = match answer.get("cniVersion") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(wrong("it is no text".to_owned())),
    };
    let version: Version =
        text.parse().map_err(|error| wrong(format!("{}: {error}", quoted(text))))?;
    if version.is_known() { Ok(Some(version)) } else { Err(wrong(format!("{version} is unknown"))) }
}

/// Writes an answer in the version of the configuration, so that the chain's next plugin knows it.
/// Most plugins answer in that version already; scripts often have one of their own.
///
/// # Errors
/// What is wrong: lists of addresses can't be told to plugins that know one for each family.
pub(crate) fn in_version(
    mut answer: Map<String, Value>,
    wanted: Version,
) -> Result<Map<String, Value>, String> {
    let version = version_of(&answer)?.unwrap_or(wanted);
    if (version < Version::LISTS) != (wanted < Version::LISTS) {
        return Err(format!(
            "it is in version {version}, which says nothing to plugins of {wanted}"
        ));
    }
    answer.insert("cniVersion".to_owned(), wanted.to_string().into());
    if let Some(Value::Array(ips)) = answer.get_mut("ips") {
        ips.iter_mut().filter_map(Value::as_object_mut).for_each(|ip| say_family(ip, wanted));
    }
    Ok(answer)
}

fn say_family(ip: &mut Map<String, Value>, wanted: Version) {
    let text = ip.get("address").and_then(Value::as_str).unwrap_or_default();
    let family = if text.contains(':') { "6" } else { "4" };
    if wanted >= Version::PLAIN_ADDRESSES {
        ip.remove("version");
    } else if !ip.contains_key("version") {
        ip.insert("version".to_owned(), family.into());
    }
}

#[cfg(test)]
mod tests;
