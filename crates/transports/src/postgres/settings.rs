//! Where the server is and how it is spoken to: the URL, in libpq's words and our own.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::{
    Config,
    config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::{failure::Failure, tls};
use crate::{Dsn, OpenError};

/// A server, or several of which one takes writes.
pub(super) struct Settings {
    /// One for each host: a host that hangs must not keep us from the next.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
    /// The host that took a connection last.
    last: AtomicUsize,
    pub(super) name: String,
    pub(super) lease: Duration,
    /// How long the server has for anything.
    pub(super) timeout: Duration,
}

/// The parameters that are ours.
const OURS: [&str; 4] = ["name", "lease", "timeout", "ca"];

/// Those of libpq that say how TLS is done, which is done here.
const TLS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Those of libpq that are passed on.
const PASSED_ON: [&str; 18] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Longer than a fail-over within a data centre blocks a connection, shorter than a publisher waits.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// A peer that vanished without a word is noticed by the kernel after 10 s + 3 · 5 s at the latest.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// PostgreSQL cuts names of tables after 63 bytes; the longest of ours adds 12.
const NAME_BYTES_MAX: usize = 48;

impl Settings {
    pub(super) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        dsn.has_only(&[&OURS[..], &TLS[..], &PASSED_ON[..]].concat())?;
        let name = dsn.name()?.to_owned();
        if name.len() > NAME_BYTES_MAX {
            return Err(OpenError::url(format!(
                "name: write {NAME_BYTES_MAX} characters at most, for PostgreSQL cuts longer names"
            )));
        }
        let timeout = dsn.timeout(TIMEOUT, TIMEOUT_MIN)?;
        let (mode, tls) = tls::parse(dsn)?;
        let all = parse(dsn, dsn.hosts(), &[])?;
        let base = parse(dsn, "", &["host", "hostaddr", "port"])?;
        let count = all.get_hosts().len().max(all.get_hostaddrs().len());
        let hosts = (0..count).map(|at| {
            let mut one = base.clone();
            prepare(&mut one, mode);
            let port = all.get_ports().get(at).or(all.get_ports().first());
            one.port(port.copied().unwrap_or(5432));
            if let Some(address) = all.get_hostaddrs().get(at) {
                one.hostaddr(*address);
            }
            match all.get_hosts().get(at) {
                Some(Host::Tcp(host)) => {
                    one.host(host);
                }
                // TLS has no name to verify there, and nobody to hide from.
                #[cfg(unix)]
                Some(Host::Unix(path)) => {
                    one.host_path(path).ssl_mode(SslMode::Disable);
                }
                // The certificate is verified for the address.
                None => {
                    if let Some(address) = all.get_hostaddrs().get(at) {
                        one.host(IpAddr::to_string(address));
                    }
                }
            }
            one
        });
        let hosts: Vec<_> = hosts.collect();
        if hosts.is_empty() {
            return Err(OpenError::url("it names no host: write postgres://user@host/database"));
        }
        if ![TargetSessionAttrs::Any, TargetSessionAttrs::ReadWrite].contains(&all.get_target_session_attrs())
        {
            return Err(OpenError::url("target_session_attrs: the log is written to, so \"read-write\""));
        }
        let first = match all.get_load_balance_hosts() {
            LoadBalanceHosts::Random => Uuid::new_v4().as_u128() as usize % hosts.len(),
            _ => 0,
        };
        Ok(Self { hosts, tls, last: AtomicUsize::new(first), name, lease: dsn.lease()?, timeout })
    }

    /// A connection to a host that answers in time and takes writes: in the order of the URL, from the last that did.
    pub(super) async fn connect(&self) -> Result<(tokio_postgres::Client, Wire), Failure> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failure = Failure::silent(self.timeout);
        for at in 0..self.hosts.len() {
            let at = (first + at) % self.hosts.len();
            match tokio::time::timeout(self.timeout, self.hosts[at].connect(self.tls.clone())).await {
                Ok(Ok(connected)) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                Ok(Err(error)) => failure = error.into(),
                Err(_) => failure = Failure::silent(self.timeout),
            }
        }
        Err(failure)
    }
}

/// A connection, to be polled.
pub(super) type Wire = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// The URL again, as libpq would have it, without what is ours.
fn parse(dsn: &Dsn, hosts: &str, without: &[&str]) -> Result<Config, OpenError> {
    let path = dsn.path().replace('@', "%40");
    let mut url = format!("postgres://{hosts}{path}?");
    for (name, value) in dsn.other_parameters(&[&OURS[..], &TLS[..], without].concat()) {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        url.push_str(&format!("{name}={value}&"));
    }
    // Its errors name a parameter, not its value.
    let mut config: Config = url
        .trim_end_matches(['&', '?'])
        .parse()
        .map_err(|error| OpenError::url(Failure::from(error).to_string()))?;
    if let Some(login) = dsn.login()? {
        config.user(login.user.unwrap_or_default());
        if let Some(password) = login.password {
            config.password(password);
        }
    }
    Ok(config)
}

/// What a hub wants where the URL says nothing.
fn prepare(config: &mut Config, mode: SslMode) {
    config.ssl_mode(mode).target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_application_name().is_none() {
        config.application_name("petasos");
    }
    // What is the library's own value was not in the URL, or might as well not have been.
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(KEEPALIVE_IDLE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Settings, OpenError> {
        Settings::parse(&url.parse().expect("a URL"))
    }

    #[test]
    fn several_hosts_are_tried_one_by_one() {
        let url = "postgres://u%40:p%2F@a:1,b,[::1]:3/d?sslmode=disable&application_name=x%20y&timeout=2s";
        let address = address(url).expect("valid");
        let ports: Vec<_> = address.hosts.iter().map(|host| host.get_ports().to_vec()).collect();
        assert_eq!(ports, [[1], [5432], [3]]);
        let first = &address.hosts[0];
        assert_eq!((first.get_user(), first.get_password()), (Some("u@"), Some(&b"p/"[..])));
        assert_eq!((first.get_dbname(), first.get_application_name()), (Some("d"), Some("x y")));
        assert_eq!(first.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(address.timeout, Duration::from_secs(2));
    }

    #[test]
    fn a_socket_of_the_same_machine_needs_no_tls() {
        let address = address("postgres:///d?host=/run/p&user=u&sslmode=require").expect("valid");
        assert_eq!(address.hosts[0].get_hosts(), [Host::Unix("/run/p".into())]);
        assert_eq!(address.hosts[0].get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn errors_name_the_parameter() {
        let long = format!("postgres://h/d?name={}", "n".repeat(49));
        for (url, part) in [
            ("postgres://h/d?colour=red", "\"colour\""),
            ("postgres://h/d?sslmode=maybe", "sslmode"),
            ("postgres://h/d?sslmode=verify-full&ca=/nowhere", "ca"),
            ("postgres://h:port/d", "port"),
            ("postgres:///d", "no host"),
            ("postgres://h/d?timeout=1ms", "timeout"),
            ("postgres://h/d?target_session_attrs=read-only", "target_session_attrs"),
            (&long, "48"),
        ] {
            let error = address(url).err().expect(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
