//! Which peers are proxies, and whom they speak for.

use std::net::IpAddr;

use http::HeaderMap;

/// Addresses whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies(Vec<Network>);

/// An address, or all that begin with the same bits.
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
            (prefix <= width).then_some(Network { address, prefix })
        };
        let wrong = |value| format!("\"{value}\" is no address or network: write 10.0.0.1 or 10.0.0.0/8");
        let networks = values.into_iter().map(|value| parse(value).ok_or_else(|| wrong(value)));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// The address of the client: that of the peer, or, where the peer is a proxy, the last one in the chain of
    /// `X-Forwarded-For` that is no proxy itself. What a client wrote into it stands before that and is not read.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.holds(client) {
            return client;
        }
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        for hop in values.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(',')) {
            // A chain that cannot be read on ends at what is known.
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.holds(client) {
                break;
            }
        }
        client
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        let ignored = width - self.prefix;
        // A shift by all 128 bits is none at all, on both sides.
        width == other_width && own.checked_shr(ignored) == other.checked_shr(ignored)
    }
}

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
    fn wrong_networks_are_named() {
        for wrong in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "localhost"] {
            assert!(Proxies::parse([wrong]).expect_err("wrong").contains(wrong), "{wrong}");
        }
    }
}
