//! The operators' port of the binary: where it listens, and who may ask there.

use std::{io, net::TcpListener};

use petasos::{ConfigError, Secret};
use petasos_server::AdminPort;

use crate::settings::Address;

/// What an operator has decided about the port.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminOptions {
    pub(crate) listen: AdminListen,
    pub(crate) token: Option<Secret>,
}

/// Where the port is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum AdminListen {
    /// On loopback, unless something else listens there.
    #[default]
    Default,
    Chosen(Address),
    Off,
}

/// The port that is taken by default: the one after the hub's.
const DEFAULT_PORT: u16 = 5501;
const DEFAULT_HOST: &str = "127.0.0.1";

impl AdminListen {
    /// An address, or `off`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "off" => Ok(Self::Off),
            address => {
                address.parse().map(Self::Chosen).map_err(|problem: String| format!("{problem}, or off"))
            }
        }
    }
}

impl AdminOptions {
    /// Checks that only those whom the operator has chosen reach the port.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.token.as_ref().is_some_and(|token| token.expose().is_empty()) {
            return Err(ConfigError {
                setting: "admin_token",
                problem: "it is empty: write a token, or leave it out".to_owned(),
            });
        }
        match &self.listen {
            AdminListen::Chosen(address) if !address.is_loopback() && self.token.is_none() => {
                Err(ConfigError {
                    setting: "admin_listen",
                    problem: format!(
                        "other machines reach {address}: give admin_token (--admin-token), or listen on \
                     {DEFAULT_HOST}:{port}",
                        port = address.port
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// Binds the port, unless a socket for it was passed to this process. `None`: there is none.
    ///
    /// # Errors
    /// If an address was chosen that cannot be bound, or if other machines reach a passed socket and there is no token. The text
    /// says what to change.
    pub(crate) async fn port(&self, passed: Option<TcpListener>) -> Result<Option<AdminPort>, String> {
        if let Some(socket) = passed.filter(|_| self.listen != AdminListen::Off) {
            let unusable = |error: io::Error| format!("the socket for operators cannot be used: {error}");
            let port = AdminPort::from_std(socket).map_err(unusable)?;
            return match port.address().ip().is_loopback() || self.token.is_some() {
                true => {
                    if let AdminListen::Chosen(address) = &self.listen
                        && !address.fits(port.address())
                    {
                        tracing::warn!(
                            setting = "admin_listen",
                            "the socket for operators was passed to this process, so it stays at {}, not at {address}: to \
                             change it, stop the hub that runs or change the unit of the socket, and start again",
                            port.address()
                        );
                    }
                    Ok(Some(port))
                }
                false => Err(format!(
                    "other machines reach {}, the socket for operators that was passed: give admin_token (--admin-token)",
                    port.address()
                )),
            };
        }
        match &self.listen {
            AdminListen::Off => Ok(None),
            AdminListen::Chosen(address) => match AdminPort::bind(&address.host, address.port).await {
                Ok(port) => Ok(Some(port)),
                Err(error) => Err(format!(
                    "cannot listen on {address} for operators: {error}: choose another address with --admin-listen, or \
                     none with --admin-listen off"
                )),
            },
            AdminListen::Default => match AdminPort::bind(DEFAULT_HOST, DEFAULT_PORT).await {
                Ok(port) => Ok(Some(port)),
                Err(error) => {
                    tracing::warn!(
                        setting = "admin_listen",
                        "there are no metrics: {DEFAULT_HOST}:{DEFAULT_PORT} cannot be listened on: {error}: choose \
                         another address, or \"off\""
                    );
                    Ok(None)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(listen: &str, token: Option<&str>) -> Option<&'static str> {
        let listen = AdminListen::parse(listen).expect("valid");
        let options = AdminOptions { listen, token: token.map(Secret::new) };
        options.check().err().map(|error| error.setting)
    }

    #[test]
    fn other_machines_need_a_token() {
        for (listen, token, wrong) in [
            ("off", None, None),
            ("", None, None),
            ("127.0.0.1:0", None, None),
            ("localhost:5501", None, None),
            ("[::1]:1", None, None),
            ("0.0.0.0:5501", None, Some("admin_listen")),
            ("[::]:5501", None, Some("admin_listen")),
            ("10.0.0.1:5501", None, Some("admin_listen")),
            ("10.0.0.1:5501", Some("secret"), None),
            ("127.0.0.1:0", Some(""), Some("admin_token")),
        ] {
            assert_eq!(setting(listen, token), wrong, "{listen} {token:?}");
        }
        assert!(AdminListen::parse("5501").is_err_and(|problem| problem.ends_with(", or off")));
    }
}
