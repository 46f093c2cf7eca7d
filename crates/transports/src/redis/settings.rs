//! What a URL says about the server: where it is, how to get in, and how long to wait for it.

use std::{fmt, time::Duration};

use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use percent_encoding::percent_decode_str;

use crate::{Dsn, OpenError};

/// Everything that the URL says.
pub(super) struct Settings {
    pub(super) hosts: Vec<Host>,
    pub(super) topology: Topology,
    /// Under which the keys of this log begin.
    pub(super) name: String,
    pub(super) lease: Duration,
    /// How long the server has to answer.
    pub(super) timeout: Duration,
    /// Replicas that have to have an update before its publisher is answered.
    pub(super) replicas: u32,
    login: Login,
    sentinel_login: Login,
    tls: Option<TlsCertificates>,
}

/// How the hosts of the URL lead to the server that takes writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One of them is it.
    Alone,
    /// They are sentinels, who know it under this name.
    Sentinel(String),
    /// They are nodes of a cluster, who know it.
    Cluster,
}

/// A name or an address, and a port.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

#[derive(Clone, Default)]
struct Login {
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Of Redis and of its sentinels.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// More than anybody names; each that is silent costs a time-out.
const HOSTS_MAX: usize = 32;

/// Long enough for a fail-over between two machines that are near each other, short enough for a publisher who waits.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// As many as anybody has.
const REPLICAS_MAX: u32 = 16;

/// A peer whose machine is gone is noticed by the kernel, too, should nothing be asked of it.
const KEEPALIVE: Duration = Duration::from_secs(10);

const PARAMETERS: &[&str] =
    &["name", "lease", "timeout", "replicas", "ca", "cert", "key", "sentinel_user", "sentinel_password"];

impl Settings {
    pub(super) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        dsn.has_only(PARAMETERS)?;
        let has_tls = dsn.scheme().starts_with("rediss");
        let mut path = dsn.path().trim_start_matches('/').split('/');
        let topology = match dsn.scheme().split_once('+').map(|(_, kind)| kind) {
            Some("sentinel") => Topology::Sentinel(master_name(path.next())?),
            Some("cluster") => Topology::Cluster,
            _ => Topology::Alone,
        };
        let database = database(path.next(), &topology)?;
        if path.next().is_some() {
            return Err(OpenError::url("the path says more than which database: write redis://host:6379/0"));
        }
        if let Topology::Alone | Topology::Cluster = topology
            && let Some(name) =
                ["sentinel_user", "sentinel_password"].iter().find(|name| dsn.parameter(name).is_some())
        {
            return Err(OpenError::url(format!("{name} is for redis+sentinel:// only")));
        }
        let port = if let Topology::Sentinel(_) = topology { SENTINEL_PORT } else { PORT };
        let (user, password) = login(dsn.user())?;
        Ok(Self {
            hosts: hosts(dsn.hosts(), port)?,
            topology,
            name: dsn.name()?.to_owned(),
            lease: dsn.lease()?,
            timeout: timeout(dsn)?,
            replicas: replicas(dsn)?,
            login: Login { user, password, database },
            sentinel_login: Login {
                user: dsn.parameter("sentinel_user").map(str::to_owned),
                password: dsn.parameter("sentinel_password").map(str::to_owned),
                database: 0,
            },
            tls: certificates(dsn, has_tls)?,
        })
    }

    /// How to connect to a server.
    pub(super) fn server(&self, host: &Host) -> ::redis::RedisResult<ConnectionInfo> {
        self.connection(host, &self.login)
    }

    /// How to connect to a node of a cluster or to a sentinel, to ask where the server is.
    pub(super) fn guide(&self, host: &Host) -> ::redis::RedisResult<ConnectionInfo> {
        match self.topology {
            Topology::Sentinel(_) => self.connection(host, &self.sentinel_login),
            _ => self.connection(host, &self.login),
        }
    }

    fn connection(&self, host: &Host, login: &Login) -> ::redis::RedisResult<ConnectionInfo> {
        let (name, port) = (host.name.clone(), host.port);
        let info = match &self.tls {
            None => ConnectionAddr::Tcp(name, port).into_connection_info()?,
            Some(certificates) => {
                let address = ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None };
                Client::build_with_tls(address.into_connection_info()?, certificates.clone())?
                    .get_connection_info()
                    .clone()
            }
        };
        let mut redis = RedisConnectionInfo::default()
            .set_db(login.database)
            .set_lib_name("petasos", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password);
        }
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
    }

    /// What every key of the log begins with. In a cluster, what is in braces says where a key lives: all in one place.
    pub(super) fn key(&self, part: &str) -> String {
        format!("{{{}}}:{part}", self.name)
    }
}

/// Without user, password and keys.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.hosts)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hosts(text: &str, port: u16) -> Result<Vec<Host>, OpenError> {
    let hosts = text.split(',').map(|host| Host::parse(host, port)).collect::<Result<Vec<_>, _>>()?;
    match hosts.len() <= HOSTS_MAX {
        true => Ok(hosts),
        false => Err(OpenError::url(format!("it names more than {HOSTS_MAX} hosts"))),
    }
}

impl Host {
    fn parse(text: &str, port: u16) -> Result<Self, OpenError> {
        let wrong = || OpenError::url("write the host as redis.example.com:6379 or [::1]:6379");
        let (name, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None if rest.is_empty() => port,
            None => return Err(wrong()),
        };
        match name.is_empty() {
            true => Err(wrong()),
            false => Ok(Self { name: name.to_owned(), port }),
        }
    }
}

fn master_name(text: Option<&str>) -> Result<String, OpenError> {
    text.filter(|name| !name.is_empty()).map(str::to_owned).ok_or_else(|| {
        OpenError::url(
            "name the primary as the sentinels know it: redis+sentinel://host1,host2,host3/mymaster",
        )
    })
}

fn database(text: Option<&str>, topology: &Topology) -> Result<i64, OpenError> {
    let wrong = || OpenError::url("the database is a number: write redis://host:6379/0");
    match text.filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => match text.parse::<u16>().map_err(|_| wrong())? {
            number if number != 0 && *topology == Topology::Cluster => {
                Err(OpenError::url("a cluster has database 0 only"))
            }
            number => Ok(number.into()),
        },
    }
}

fn login(text: Option<&str>) -> Result<(Option<String>, Option<String>), OpenError> {
    let Some(text) = text else { return Ok((None, None)) };
    let wrong = || OpenError::url("write user and password as user:password@ or :password@, percent-encoded");
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    let decode = |text: &str| {
        percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| wrong())
    };
    let (user, password) = (decode(user)?, decode(password)?);
    match password.is_empty() {
        true => Err(wrong()),
        false => Ok(((!user.is_empty()).then_some(user), Some(password))),
    }
}

fn timeout(dsn: &Dsn) -> Result<Duration, OpenError> {
    let Some(text) = dsn.parameter("timeout") else { return Ok(TIMEOUT) };
    let allowed = TIMEOUT_MIN..=TIMEOUT_MAX;
    let timeout = humantime::parse_duration(text).ok().filter(|timeout| allowed.contains(timeout));
    timeout.ok_or_else(|| OpenError::url("timeout: write a time from 100ms to 60s, such as 5s"))
}

fn replicas(dsn: &Dsn) -> Result<u32, OpenError> {
    let Some(text) = dsn.parameter("replicas") else { return Ok(0) };
    let replicas = text.parse().ok().filter(|replicas| (0..=REPLICAS_MAX).contains(replicas));
    replicas.ok_or_else(|| OpenError::url(format!("replicas: write a number from 0 to {REPLICAS_MAX}")))
}

fn certificates(dsn: &Dsn, has_tls: bool) -> Result<Option<TlsCertificates>, OpenError> {
    let file = |name: &str| {
        let Some(path) = dsn.parameter(name) else { return Ok(None) };
        let read = std::fs::read(path);
        read.map(Some).map_err(|error| OpenError::url(format!("{name}: {path} cannot be read: {error}")))
    };
    let (root_cert, cert, key) = (file("ca")?, file("cert")?, file("key")?);
    let client_tls = match (cert, key) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        (None, None) => None,
        _ => {
            return Err(OpenError::url(
                "cert and key go together: the files of a certificate and of its key",
            ));
        }
    };
    if !has_tls {
        return match root_cert.is_some() || client_tls.is_some() {
            true => Err(OpenError::url("ca, cert and key are for TLS: write rediss instead of redis")),
            false => Ok(None),
        };
    }
    // The client library asks for the process's choice, which nobody may have made.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been faster: then there is one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let certificates = TlsCertificates { client_tls, root_cert };
    let probe = ConnectionAddr::TcpTls { host: String::new(), port: 0, insecure: false, tls_params: None };
    match probe.into_connection_info().and_then(|info| Client::build_with_tls(info, certificates.clone())) {
        Ok(_) => Ok(Some(certificates)),
        Err(_) => Err(OpenError::url("ca, cert and key must be files in PEM format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Settings, OpenError> {
        Settings::parse(&url.parse()?)
    }

    #[test]
    fn each_form_says_where_the_server_is() {
        let settings = parse("redis://h/3").expect("valid");
        assert_eq!((settings.hosts[0].to_string().as_str(), settings.login.database), ("h:6379", 3));
        let settings =
            parse("redis+sentinel://u:p%40@a,b:1,[::1]:2/main/4?sentinel_password=s").expect("valid");
        assert_eq!(format!("{:?}", settings.hosts), "[a:26379, b:1, [::1]:2]");
        assert_eq!(settings.topology, Topology::Sentinel("main".to_owned()));
        assert_eq!((settings.login.password.as_deref(), settings.login.database), (Some("p@"), 4));
        assert_eq!(settings.sentinel_login.password.as_deref(), Some("s"));
        let settings = parse("rediss+cluster://a,b?name=x&timeout=1s&replicas=2").expect("valid");
        assert_eq!((settings.topology, settings.replicas), (Topology::Cluster, 2));
        assert_eq!((settings.timeout, settings.tls.is_some()), (Duration::from_secs(1), true));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (url, part) in [
            ("redis://", "write the host"),
            ("redis://a:x", "write the host"),
            ("redis://a/x", "a number"),
            ("redis://a/0/1", "which database"),
            ("redis://secret@a", ":password@"),
            ("redis://user:@a", ":password@"),
            ("redis+sentinel://a", "/mymaster"),
            ("redis+cluster://a/1", "database 0"),
            ("redis://a?timeout=1ms", "100ms"),
            ("redis://a?replicas=x", "from 0 to 16"),
            ("redis://a?ca=/dev/null", "rediss"),
            ("rediss://a?ca=/nowhere", "/nowhere"),
            ("rediss://a?cert=/dev/null", "go together"),
            ("redis://a?sentinel_password=x", "redis+sentinel"),
            ("redis://a?foo=x", "\"foo\""),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
