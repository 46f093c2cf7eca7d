//! The command line and the environment of the binary.

use std::time::Duration;

use clap::Parser;
use petasos::{Config, ConfigError, Secret};

/// A hub compatible with the Mercure protocol: pushes updates to browsers over Server-Sent Events.
///
/// Without keys it makes random ones and prints them, with a token that may publish everything.
#[derive(Debug, Parser)]
#[command(name = "petasos", version)]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, env = "PETASOS_LISTEN", default_value = "0.0.0.0:5500", value_name = "HOST:PORT")]
    pub(crate) listen: String,

    /// Shared secret of the publishers' tokens (HS256, HS384, HS512)
    #[arg(long, env = "PETASOS_PUBLISHER_KEY", hide_env_values = true, value_name = "SECRET")]
    publisher_key: Option<Secret>,

    /// Shared secret of the subscribers' tokens
    #[arg(long, env = "PETASOS_SUBSCRIBER_KEY", hide_env_values = true, value_name = "SECRET")]
    subscriber_key: Option<Secret>,

    /// Let subscribers without a token receive public updates
    #[arg(long, env = "PETASOS_ANONYMOUS")]
    anonymous: bool,

    /// Do not announce and list active subscriptions
    #[arg(long, env = "PETASOS_NO_SUBSCRIPTIONS")]
    no_subscriptions: bool,

    /// Origins whose pages may use the hub, with cookies; "*": all, without cookies
    #[arg(long, env = "PETASOS_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    cors_origins: Vec<String>,

    /// Origins, beside the hub's own, whose pages may publish with a cookie
    #[arg(long, env = "PETASOS_PUBLISH_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    publish_origins: Vec<String>,

    /// Name of the cookie that may carry a token
    #[arg(long, env = "PETASOS_COOKIE_NAME", default_value = "mercureAuthorization", value_name = "NAME")]
    cookie_name: String,

    /// Seconds after which an idle stream sends a comment; 0: never
    #[arg(long, env = "PETASOS_KEEP_ALIVE", default_value_t = 15, value_name = "SECONDS")]
    keep_alive: u64,

    /// Updates that are kept in memory for reconnections
    #[arg(long, env = "PETASOS_HISTORY", default_value_t = 1_000, value_name = "UPDATES")]
    history: usize,

    /// Streams that may be open at once
    #[arg(long, env = "PETASOS_MAX_SUBSCRIBERS", default_value_t = 100_000, value_name = "STREAMS")]
    max_subscribers: usize,

    /// Seconds that open requests get when the hub stops
    #[arg(long, env = "PETASOS_DRAIN", default_value_t = 5, value_name = "SECONDS")]
    pub(crate) drain: u64,
}

impl TryFrom<&Options> for Config {
    type Error = String;

    fn try_from(options: &Options) -> Result<Self, String> {
        let (publisher_key, subscriber_key) = (options.publisher_key.clone(), options.subscriber_key.clone());
        if publisher_key.is_some() != subscriber_key.is_some() {
            return Err("give both --publisher-key and --subscriber-key, or neither".to_owned());
        }
        Ok(Self {
            publisher_key,
            subscriber_key,
            anonymous: options.anonymous,
            subscriptions: !options.no_subscriptions,
            cors_origins: options.cors_origins.clone(),
            publish_origins: options.publish_origins.clone(),
            cookie_name: options.cookie_name.clone(),
            keep_alive: Duration::from_secs(options.keep_alive),
            history_max: options.history,
            subscribers_max: options.max_subscribers,
            ..Self::default()
        })
    }
}

/// Splits `HOST:PORT`; an IPv6 address stands in brackets.
pub(crate) fn address(listen: &str) -> Result<(String, u16), String> {
    let wrong = || format!("--listen {listen}: write HOST:PORT, an IPv6 address in brackets");
    let (host, port) = listen.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host,
        None if host.contains(':') || host.is_empty() => return Err(wrong()),
        None => host,
    };
    Ok((host.to_owned(), port.parse().map_err(|_| wrong())?))
}

/// The error of a setting in terms of its flag.
pub(crate) fn explain(error: &ConfigError) -> String {
    format!("--{}: {}", error.setting.replace('_', "-"), error.problem)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn addresses_are_split() {
        assert_eq!(address("0.0.0.0:5500"), Ok(("0.0.0.0".to_owned(), 5500)));
        assert_eq!(address("[::1]:0"), Ok(("::1".to_owned(), 0)));
        for bad in ["", "5500", ":5500", "::1:5500", "host:", "host:70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
