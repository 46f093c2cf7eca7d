//! What a URL says about the server: where it is, how to get in, and how long to wait for it.

use std::{fmt, time::Duration};

use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{Dsn, OpenError, hosts::Host};

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
    account: Account,
    sentinel_account: Account,
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

#[derive(Clone, Default)]
struct Account {
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Of Redis and of its sentinels.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Long enough for a fail-over between two machines that are near each other, short enough for a publisher that waits.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// More than any server has.
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
        let (user, password) = login(dsn)?;
        Ok(Self {
            hosts: dsn.host_list(port)?,
            topology,
            name: dsn.name()?.to_owned(),
            lease: dsn.lease()?,
            timeout: dsn.timeout(TIMEOUT, TIMEOUT_MIN)?,
            replicas: dsn.replicas(0, REPLICAS_MAX)?,
            account: Account { user, password, database },
            sentinel_account: Account {
                user: dsn.parameter("sentinel_user").map(str::to_owned),
                password: dsn.parameter("sentinel_password").map(str::to_owned),
                database: 0,
            },
            tls: certificates(dsn, has_tls)?,
        })
    }

    /// How to connect to a server.
    pub(super) fn server(&self, host: &Host) -> ::redis::RedisResult<ConnectionInfo> {
        self.connection(host, &self.account)
    }

    /// How to connect to a node of a cluster or to a sentinel, to ask where the server is.
    pub(super) fn guide(&self, host: &Host) -> ::redis::RedisResult<ConnectionInfo> {
        match self.topology {
            Topology::Sentinel(_) => self.connection(host, &self.sentinel_account),
            _ => self.connection(host, &self.account),
        }
    }

    fn connection(&self, host: &Host, account: &Account) -> ::redis::RedisResult<ConnectionInfo> {
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
            .set_db(account.database)
            .set_lib_name("petasos", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &account.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &account.password {
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

/// User and password of the URL.
fn login(dsn: &Dsn) -> Result<(Option<String>, Option<String>), OpenError> {
    let Some(mut login) = dsn.login()? else { return Ok((None, None)) };
    let user = login.user.take();
    match login.password_text()?.filter(|password| !password.is_empty()) {
        Some(password) => Ok((user, Some(password))),
        None => {
            Err(OpenError::url("write user and password as user:password@ or :password@, percent-encoded"))
        }
    }
}

fn certificates(dsn: &Dsn, has_tls: bool) -> Result<Option<TlsCertificates>, OpenError> {
    let read = |name: &str, path: &str| {
        let read = std::fs::read(path);
        read.map_err(|error| OpenError::url(format!("{name}: {path} cannot be read: {error}")))
    };
    let root_cert = dsn.parameter("ca").map(|path| read("ca", path)).transpose()?;
    let client_tls = match dsn.identity("cert", "key")? {
        Some((cert, key)) => {
            Some(ClientTlsConfig { client_cert: read("cert", cert)?, client_key: read("key", key)? })
        }
        None => None,
    };
    if !has_tls {
        return match root_cert.is_some() || client_tls.is_some() {
            true => Err(OpenError::url("ca, cert and key are for TLS: write rediss instead of redis")),
            false => Ok(None),
        };
    }
    // The client library asks for the crypto provider of the process, which may not be set.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster: then it is set.
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
        assert_eq!((settings.hosts[0].to_string().as_str(), settings.account.database), ("h:6379", 3));
        let settings =
            parse("redis+sentinel://u:p%40@a,b:1,[::1]:2/main/4?sentinel_password=s").expect("valid");
        assert_eq!(format!("{:?}", settings.hosts), "[a:26379, b:1, [::1]:2]");
        assert_eq!(settings.topology, Topology::Sentinel("main".to_owned()));
        assert_eq!((settings.account.password.as_deref(), settings.account.database), (Some("p@"), 4));
        assert_eq!(settings.sentinel_account.password.as_deref(), Some("s"));
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
