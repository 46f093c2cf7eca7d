//! How values are written: durations, numbers, lists and switches, and what 0 means.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use petasos_protocol::{Limits, matcher::Matcher};
use petasos_server::PublisherCertificate;

/// How the value of a setting is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false. As a flag, the value may be left out.
    Switch,
    /// A text. The name stands for it in help.
    Text(&'static str),
    /// A text that no output shows.
    Secret(&'static str),
    /// An array in the file. Elsewhere, commas or spaces separate the entries.
    List(&'static str),
    /// An array of tables in the file. Elsewhere the same in TOML. It may hold secrets.
    Tables,
}

/// Puts a value where it belongs, if it is one.
pub(super) fn store<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a whole number, 0 or more".to_owned())
}

/// What a client certificate means for a publisher.
pub(super) fn publisher_certificate(text: &str) -> Result<PublisherCertificate, String> {
    match text {
        "needed" => Ok(PublisherCertificate::Needed),
        "enough" => Ok(PublisherCertificate::Enough),
        _ => Err("write needed or enough".to_owned()),
    }
}

/// A bound on something that every request has.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match number(text)? {
        0 => Err("0 would refuse every request that has one: write 1 or more".to_owned()),
        bound => Ok(bound),
    }
}

/// For a setting that says "0: any number".
pub(super) fn unbounded_if_zero(bound: usize) -> usize {
    if bound == 0 { usize::MAX } else { bound }
}

/// Seconds, or a number with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let value = seconds.or_else(|| humantime::parse_duration(text).ok());
    value.filter(|value| *value <= DURATION_MAX).ok_or_else(|| {
        "write seconds, or a number with its unit, such as 500ms, 15s, 10m or 1h; at most 365d".to_owned()
    })
}

/// Longer than any stream. It keeps timers in their range.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A bound on what the log keeps. Only `history` can turn the history off.
pub(super) fn kept<T: Default + PartialEq>(bound: T) -> Result<T, String> {
    match bound == T::default() {
        true => {
            Err("0 keeps nothing: leave it out for no bound, or write history = 0 to keep nothing".to_owned())
        }
        false => Ok(bound),
    }
}

pub(super) fn idle_timeout(time: Duration) -> Result<Duration, String> {
    match time.is_zero() {
        true => Err("0 would close connections while the next request is on its way: write a duration that is longer than \
                     the proxy in front keeps its connections, such as 75s"
            .to_owned()),
        false => Ok(time),
    }
}

/// The system counts this time in milliseconds.
pub(super) fn write_timeout(time: Duration) -> Result<Duration, String> {
    match time.as_millis() {
        0 => Err("0 leaves no time to receive anything: write a duration, such as 1m".to_owned()),
        _ => Ok(time),
    }
}

pub(super) fn resource(text: &str) -> Result<String, String> {
    match text {
        "" => Err("the identifier is empty: leave it out, or give what tokens hold as \"aud\"".to_owned()),
        id => Ok(id.to_owned()),
    }
}

pub(super) fn list(text: &str) -> Vec<String> {
    let items = text.split(|c: char| c == ',' || c.is_whitespace());
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Groups of topics: URI templates.
pub(super) fn groups(text: &str) -> Result<Vec<Matcher>, String> {
    let templates = list(text);
    if templates.len() > GROUPS_MAX {
        return Err(format!("there are {} groups: name {GROUPS_MAX} at most", templates.len()));
    }
    let mut groups: Vec<Matcher> = Vec::new();
    for template in &templates {
        let group = Matcher::selector(template, &Limits::default())
            .map_err(|reject| format!("\"{template}\": {reject}"))?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Each group is compared with each update, and each is a value of a label.
const GROUPS_MAX: usize = 100;

/// Where the hub listens: `HOST:PORT`. An IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Whether only this machine reaches it.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// Whether a socket that is bound to this address can have the address `bound`. A name can stand for any IP address.
    pub(crate) fn fits(&self, bound: SocketAddr) -> bool {
        let ip = self.host.parse::<IpAddr>();
        (self.port == 0 || self.port == bound.port())
            && ip.map_or(true, |ip| ip.to_canonical() == bound.ip().to_canonical())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write HOST:PORT, with an IPv6 address in brackets".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host,
            None if host.contains(':') || host.is_empty() => return Err(wrong()),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(duration("15"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("365d"), Ok(DURATION_MAX));
        for wrong in ["", "-1", "soon", "99999999999999", "365d 1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(list("a, b  c,"), ["a", "b", "c"]);
        assert_eq!((switch("TRUE"), switch("off")), (Ok(true), Ok(false)));
        assert!(switch("").is_err());
        assert_eq!((positive("1"), unbounded_if_zero(0), unbounded_if_zero(1)), (Ok(1), usize::MAX, 1));
        assert!(write_timeout(Duration::from_micros(999)).is_err());
    }

    #[test]
    fn groups_are_templates_each_once_and_not_too_many() {
        let text = |count: usize| (0..count).map(|n| format!("/a/{n}/{{id}}")).collect::<Vec<_>>().join(" ");
        assert_eq!(groups("/a/{id}, b,/a/{id}").map(|groups| groups.len()), Ok(2));
        assert_eq!(groups(&text(GROUPS_MAX)).map(|groups| groups.len()), Ok(GROUPS_MAX));
        assert!(groups(&text(GROUPS_MAX + 1)).is_err_and(|problem| problem.contains("100 at most")));
        let variables: String = (0..17).map(|n| format!("{{v{n}}}")).collect();
        assert!(groups(&variables).is_err());
    }

    #[test]
    fn addresses_are_split_and_written_as_they_were() {
        let address = |host: &str, port| Ok(Address { host: host.to_owned(), port });
        assert_eq!("0.0.0.0:5500".parse(), address("0.0.0.0", 5500));
        assert_eq!("[::1]:0".parse(), address("::1", 0));
        for text in ["0.0.0.0:5500", "[::1]:0", "localhost:1"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
        for (listen, bound, fits) in [
            ("127.0.0.1:0", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("hub.example:80", "10.0.0.1:80", true),
            ("hub.example:80", "10.0.0.1:81", false),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("0.0.0.0:81", "0.0.0.0:80", false),
        ] {
            let (listen, bound): (Address, SocketAddr) =
                (listen.parse().expect("an address"), bound.parse().expect("an address"));
            assert_eq!(listen.fits(bound), fits, "{listen} {bound}");
        }
        for bad in ["", "5500", ":5500", "::1:5500", "host:", "host:70000"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
