//! Which peers are proxies, and the client address that they forward.
//!
//! Only `X-Forwarded-For` is read. A proxy that sets this field usually passes `Forwarded` (RFC 7239) on as the client sent
//! it, so a hub that read both fields would believe the client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

/// Addresses whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies(Vec<Network>);

/// An address, or all addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Proxies {
    /// From addresses (`10.0.0.1`) and networks (`10.0.0.0/8`, `fd00::/8`).
    ///
    /// # Errors
    /// A sentence that names the wrong entry.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let parse = |value: &str| {
            let (address, prefix) = value.split_once('/').map_or((value, None), |(a, p)| (a, Some(p)));
            let address: IpAddr = address.parse().ok()?;
            let (_, width) = bits(address);
            let prefix = prefix.map_or(Some(width), |prefix| prefix.parse().ok())?;
            (prefix <= width).then_some(Network { address, prefix }.canonical())
        };
        let wrong = |value| format!("\"{value}\" is no address or network: write 10.0.0.1 or 10.0.0.0/8");
        let networks = values.into_iter().map(|value| parse(value).ok_or_else(|| wrong(value)));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// The address of the client. That is the peer, or, if the peer is a proxy, the last address in `X-Forwarded-For` that is
    /// no proxy. Addresses that a client has written there itself stand before that one and are not read.
    ///
    /// The chain is read from its end. A hop that is no address (`unknown`, garbage) ends it: the hop read last counts.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.holds(client) {
            return client;
        }
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        // Bytes that are not ASCII are no address.
        let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("unknown").rsplit(','));
        // RFC 9110, section 5.6.1: empty elements of a list do not count.
        for hop in hops.map(str::trim).filter(|hop| !hop.is_empty()) {
            let Some(address) = address(hop) else { break };
            client = address;
            if !self.holds(client) {
                break;
            }
        }
        client
    }

    /// Whether the networks cover half of all IPv4 addresses, or an eighth of all IPv6 addresses: 2000::/3, the part in use,
    /// is an eighth. Nobody has so many proxies.
    pub fn are_most_addresses(&self) -> bool {
        self.are_most(32, 1) || self.are_most(128, 3)
    }

    /// Whether the networks of this width cover at least one address in 2^`share`.
    fn are_most(&self, width: u32, share: u32) -> bool {
        let networks = self.0.iter().filter(|network| bits(network.address).1 == width);
        let mut ranges: Vec<_> = networks
            .map(|network| {
                let hosts = 1_u128.checked_shl(width - network.prefix).map_or(u128::MAX, |count| count - 1);
                let (address, _) = bits(network.address);
                (address & !hosts, address | hosts)
            })
            .collect();
        ranges.sort_unstable();
        let (mut count, mut next) = (0_u128, 0_u128);
        for (first, last) in ranges {
            let first = first.max(next);
            if first <= last {
                count = count.saturating_add(last - first).saturating_add(1);
                next = last.saturating_add(1);
            }
        }
        count >= 1 << (width - share)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }
}

/// The address of one hop, in the forms that proxies write: `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:5678`, each perhaps in quotes, an IPv6 address perhaps with a zone (`fe80::1%eth0`).
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(hop).trim();
    let without_zone;
    let bare = match bare.split_once('%') {
        Some((address, zone)) => {
            let end = zone.find(']').map_or("", |end| &zone[end..]);
            without_zone = format!("{address}{end}");
            &without_zone
        }
        None => bare,
    };
    let in_brackets = || bare.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = bare.parse().ok();
    let address = address.or_else(|| bare.parse().ok().map(|address: SocketAddr| address.ip()));
    address.or_else(|| in_brackets().map(IpAddr::V6)).map(|address| address.to_canonical())
}

impl Network {
    /// Turns a network of mapped IPv4 addresses (`::ffff:10.0.0.0/104`) into one of IPv4.
    fn canonical(self) -> Self {
        match self.address.to_canonical() {
            address @ IpAddr::V4(_) if self.address.is_ipv6() && self.prefix >= MAPPED_BITS => {
                Self { address, prefix: self.prefix - MAPPED_BITS }
            }
            _ => self,
        }
    }

    fn holds(&self, address: IpAddr) -> bool {
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        let ignored = width - self.prefix;
        // A shift by all 128 bits is none at all, on both sides.
        width == other_width && own.checked_shr(ignored) == other.checked_shr(ignored)
    }
}

/// The bits that come before an IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u32 = 96;

/// The address as a number, and its width.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(proxies: &[&str], peer: &str, forwarded: &[&'static str]) -> String {
        let proxies = Proxies::parse(proxies.iter().copied()).expect("networks");
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn only_proxies_are_believed_and_only_as_far_as_they_go() {
        assert_eq!(client(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.9.9.9"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.1"], "10.0.0.2", &["1.2.3.4"]), "10.0.0.2");
        assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client(&["127.0.0.1"], "::ffff:127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client(&["fd00::/8"], "fd12::1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["0.0.0.0/0"], "9.9.9.9", &[]), "9.9.9.9");
    }

    #[test]
    fn hops_are_read_in_every_form_that_proxies_write() {
        let behind = |forwarded| client(&["10.0.0.0/8"], "10.0.0.1", &[forwarded]);
        for (forwarded, expected) in [
            ("1.2.3.4:5678", "1.2.3.4"),
            ("[::1]:80", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("\"1.2.3.4\"", "1.2.3.4"),
            ("  1.2.3.4\t", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:443", "fe80::1"),
            ("6.6.6.6, 1.2.3.4:5678 , 10.9.9.9:80", "1.2.3.4"),
            ("1.2.3.4, ,", "1.2.3.4"),
            ("6.6.6.6, unknown, 10.9.9.9", "10.9.9.9"),
        ] {
            assert_eq!(behind(forwarded), expected, "{forwarded}");
        }
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["6.6.6.6", "1.2.3.4:1, 10.0.0.2:1", ""]), "1.2.3.4");
    }

    #[test]
    fn hops_that_are_no_address_end_the_chain() {
        for garbage in [
            "unknown",
            "_hidden",
            "1.2.3.4:x",
            "1.2.3.4:99999",
            "1.2.3",
            "[::1",
            "::1]",
            "[1.2.3.4]",
            "[::1]80",
            "\"",
            "%",
            "[%]",
            "]%[",
            "localhost",
            "for=1.2.3.4",
        ] {
            assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &[garbage]), "10.0.0.1", "{garbage}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_bytes(b"1.2.3.4, \xff").expect("a value"));
        let proxies = Proxies::parse(["10.0.0.1"]).expect("networks");
        assert_eq!(proxies.client([10, 0, 0, 1].into(), &headers), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn networks_of_mapped_addresses_are_those_of_ipv4() {
        assert_eq!(client(&["::ffff:10.0.0.0/104"], "10.1.2.3", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["::ffff:10.0.0.1"], "::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["::/0"], "2001:db8::1", &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn networks_of_nearly_all_addresses_are_known_however_they_are_cut() {
        let most = |networks: &[&str]| {
            Proxies::parse(networks.iter().copied()).expect("networks").are_most_addresses()
        };
        assert!(most(&["0.0.0.0/0"]) && most(&["::/0"]) && most(&["10.0.0.1", "9.9.9.9/0"]));
        assert!(most(&["0.0.0.0/1", "128.0.0.0/1"]) && most(&["128.0.0.0/2", "64.0.0.0/2"]));
        assert!(most(&["2000::/3"]) && most(&["::/1", "8000::/1"]) && most(&["::ffff:0.0.0.0/96"]));
        for few in [
            &[][..],
            &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fd00::/8", "::1", "fe80::/10"],
            &["0.0.0.0/2", "0.0.0.0/2", "1.0.0.0/8"],
            &["0.0.0.0", "::"],
        ] {
            assert!(!most(few), "{few:?}");
        }
    }

    #[test]
    fn wrong_networks_are_named() {
        for wrong in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "localhost"] {
            assert!(Proxies::parse([wrong]).expect_err("wrong").contains(wrong), "{wrong}");
        }
    }
}
