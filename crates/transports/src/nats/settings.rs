//! What the URL says, and the connection that follows from it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, ServerAddr};
use petasos_hub::TransportError;
use uuid::Uuid;

use super::failure::Denials;
use crate::{Dsn, OpenError, hosts::Host};

/// The URL of a log in NATS, taken apart and checked.
pub(super) struct Settings {
    servers: Vec<ServerAddr>,
    credentials: Credentials,
    ca: Option<PathBuf>,
    /// Files of the certificate and the key by which the server knows the hub.
    identity: Option<(PathBuf, PathBuf)>,
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) replicas: u32,
    /// How long anything waits for an answer.
    pub(super) timeout: Duration,
}

enum Credentials {
    None,
    Token(String),
    Password(String, String),
    /// A JWT and the seed that proves it, as `nsc` writes them.
    File(PathBuf),
}

const PARAMETERS: &[&str] = &["name", "lease", "replicas", "timeout", "ca", "cert", "key", "creds"];

/// An answer that takes longer than this is not waited for: a cluster elects a leader in less, and who publishes by
/// HTTP does not want to wait longer.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// What NATS allows.
const REPLICAS_MAX: u32 = 5;

/// The client pings this often, and gives a server up that has left two unanswered.
const PING_INTERVAL: Duration = Duration::from_secs(2);

const PORT: u16 = 4222;

/// An address at which no server can listen.
const NOWHERE: &str = "nats://127.0.0.1:0";

impl Settings {
    pub(super) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        dsn.has_only(PARAMETERS)?;
        if !matches!(dsn.path(), "" | "/") {
            return Err(OpenError::url("it must have no path: several hubs in one server differ in ?name="));
        }
        let server = |host: Host| format!("{}://{host}", dsn.scheme()).parse();
        let servers = dsn.host_list(PORT)?.into_iter().map(server).collect::<Result<_, _>>();
        let servers = servers.map_err(|_| OpenError::url("a host of it has other characters"))?;
        let path = |name: &str| dsn.parameter(name).map(PathBuf::from);
        let credentials = match (dsn.login()?, path("creds")) {
            (None, None) => Credentials::None,
            (None, Some(file)) => Credentials::File(file),
            (Some(_), Some(_)) => {
                return Err(OpenError::url("creds: leave out the user and the password before \"@\""));
            }
            (Some(mut login), None) => {
                let user = login.user.take().unwrap_or_default();
                match login.password_text()? {
                    Some(password) => Credentials::Password(user, password),
                    None => Credentials::Token(user),
                }
            }
        };
        Ok(Self {
            servers,
            credentials,
            ca: path("ca"),
            identity: dsn.identity("cert", "key")?.map(|(cert, key)| (cert.into(), key.into())),
            name: dsn.name()?.to_owned(),
            lease: dsn.lease()?,
            replicas: dsn.replicas(1, REPLICAS_MAX)?,
            timeout: dsn.timeout(TIMEOUT, TIMEOUT_MIN)?,
        })
    }

    /// Connects once, to one of the servers or of the `others`. A client whose connection is lost ends.
    ///
    /// A client that reconnected by itself would then send the messages that waited in it, whose publishers have got an
    /// error by then. The library has no setting against that. So after its first connection it is given [`NOWHERE`],
    /// until its attempts are used up.
    pub(super) async fn connect(
        &self,
        denials: &Arc<Denials>,
        others: &[String],
    ) -> Result<Client, OpenError> {
        let nowhere: ServerAddr = NOWHERE.parse().expect("a valid address");
        let mut servers = self.servers.clone();
        servers.extend(others.iter().filter_map(|other| other.parse::<ServerAddr>().ok()));
        // Nodes with the same list should not all use its first server.
        let first = Uuid::new_v4().as_u128() % servers.len() as u128;
        servers.rotate_left(first as usize);
        // The error of the last one is shown.
        servers.insert(0, nowhere.clone());
        let has_connected = Arc::new(AtomicBool::new(false));
        let again = {
            let has_connected = Arc::clone(&has_connected);
            move |_, _| {
                let target = ReconnectToServer { addr: nowhere.clone(), delay: Some(Duration::ZERO) };
                std::future::ready(has_connected.load(Ordering::Acquire).then_some(target))
            }
        };
        let mut options = ConnectOptions::new()
            .name(format!("petasos {}", self.name))
            .connection_timeout(self.timeout)
            .ping_interval(PING_INTERVAL)
            .retain_servers_order()
            .reconnect_delay_callback(|_| Duration::ZERO)
            .reconnect_to_server_callback(again)
            .max_reconnects(servers.len());
        if let Some(path) = &self.ca {
            readable("ca", path)?;
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.identity {
            readable("cert", certificate)?;
            readable("key", key)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options = match &self.credentials {
            Credentials::None => options,
            Credentials::Token(token) => options.token(token.clone()),
            Credentials::Password(user, password) => {
                options.user_and_password(user.clone(), password.clone())
            }
            Credentials::File(path) => {
                let file = options.credentials_file(path).await;
                // The error may show what is in the file.
                file.map_err(|error| {
                    OpenError::url(format!(
                        "creds: {} is no credentials file: {:?}",
                        path.display(),
                        error.kind()
                    ))
                })?
            }
        };
        let denials = Arc::clone(denials);
        let options = options.event_callback(move |event| {
            if let Event::ServerError(error) = event {
                denials.hear(&error.to_string());
            }
            std::future::ready(())
        });
        let connected = options.connect(&servers[..]).await;
        has_connected.store(true, Ordering::Release);
        connected.map_err(|error| match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                OpenError::Refused(
                    "the NATS server refuses the credentials: write nats://user:password@host, \
                     nats://token@host or ?creds=FILE as the server's accounts have it"
                        .to_owned(),
                )
            }
            // The client reports a certificate that it does not accept as one of many errors of the connection.
            kind if kind == ConnectErrorKind::Tls || causes(&error).contains("certificate") => {
                OpenError::Refused(format!(
                    "TLS to the NATS server fails: {}: write tls://, with ?ca=FILE if its certificate is your own \
                     authority's, and ?cert=FILE&key=FILE if it asks for one",
                    causes(&error)
                ))
            }
            _ => TransportError::unavailable(format!("no NATS server can be reached: {}", causes(&error)))
                .into(),
        })
    }
}

/// The client finds out only when it connects, and does not say which file it was.
fn readable(name: &str, path: &PathBuf) -> Result<(), OpenError> {
    let file = std::fs::File::open(path);
    file.map(drop).map_err(|error| OpenError::url(format!("{name}: {}: {error}", path.display())))
}

/// An error and what lies behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_write() {
        for (url, part) in [
            ("nats://", "nats://host1:4222"),
            ("nats://a,,b", "nats://host1:4222"),
            ("nats://a/1", "?name="),
            ("nats://a?replicas=6", "1 to 5"),
            ("nats://a?timeout=1h", "100ms"),
            ("nats://a?cert=x", "both"),
            ("nats://u:p@a?creds=x", "leave out"),
            ("nats://a?stream=x", "\"stream\""),
        ] {
            let dsn: Dsn = url.parse().expect("a URL");
            let error = Settings::parse(&dsn).err().expect(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let dsn: Dsn = "tls://token@a:1,[::1]:2?replicas=3".parse().expect("a URL");
        let settings = Settings::parse(&dsn).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((settings.servers.len(), settings.replicas, settings.timeout), (2, 3, TIMEOUT));
        assert!(matches!(settings.credentials, Credentials::Token(token) if token == "token"));
    }
}
