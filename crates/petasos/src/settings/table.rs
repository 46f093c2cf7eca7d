//! Every setting of the binary, each once: its name, its help, its default, and the field that it fills.
//!
//! The command line, the environment, the file, `--help`, the errors and a test of the documentation read this table.

use petasos::{Log, Secret, cookie_name, origins, publish_origins, telemetry};
use petasos_server::{AlternativeServices, Proxies};

use crate::{acme::Proof, admin::AdminListen};

use super::{
    Options,
    issuers::{issuers, key_from_file},
    kinds::{
        Kind::{self, List, Switch, Tables, Text},
        duration, groups, idle_timeout, kept, list, number, positive, publisher_certificate, resource, store,
        switch, unbounded_if_zero, write_timeout,
    },
};

/// One setting.
pub(crate) struct Setting {
    /// The key in the file. The flag has hyphens for its underscores. The environment variable is in capitals after
    /// `PETASOS_`.
    pub(crate) key: &'static str,
    /// Environment variables of the reference hub that mean the same.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) kind: Kind,
    pub(crate) heading: &'static str,
    pub(crate) help: &'static str,
    /// The default as the documentation states it. Empty: there is none.
    pub(crate) default: &'static str,
    /// Whether a running hub goes on with its former value until it is started again.
    pub(crate) needs_restart: bool,
    /// Fills the field of the setting. The error says what to write instead.
    pub(super) set: fn(&mut Options, &str) -> Result<(), String>,
}

impl Setting {
    const fn needs_restart(mut self) -> Self {
        self.needs_restart = true;
        self
    }

    /// The flag, without the hyphens before it.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variables of the setting. The first one that is set counts.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> + use<> {
        let aliases = self.aliases.iter().map(|&name| name.to_owned());
        std::iter::once(format!("PETASOS_{}", self.key.to_uppercase())).chain(aliases)
    }
}

macro_rules! setting {
    ($heading:expr, $key:literal $(| $alias:literal)*, $kind:expr, $default:literal, $help:literal, $set:expr) => {
        Setting {
            key: $key,
            aliases: &[$($alias),*],
            kind: $kind,
            heading: $heading,
            help: $help,
            default: $default,
            needs_restart: false,
            set: $set,
        }
    };
}

const HUB: &str = "Hub";
const TLS: &str = "TLS";
const OPERATORS: &str = "Operators";
const LOG: &str = "Log";
const TOKENS: &str = "Tokens";
const BROWSERS: &str = "Browsers";
const STREAMS: &str = "Streams";
const LIMITS: &str = "Limits";

/// All settings, in the order in which they are set.
pub(crate) const SETTINGS: &[Setting] = &[
    setting!(
        HUB,
        "listen",
        Text("HOST:PORT"),
        "0.0.0.0:5500",
        "Address and port to listen on; port 0 lets the system choose",
        |options, text| store(&mut options.listen, text.parse())
    )
    .needs_restart(),
    setting!(
        HUB,
        "public_url",
        Text("URL"),
        "http://localhost:PORT/.well-known/mercure, https with tls_cert; with acme_domains the first name",
        "The hub's URL as clients see it; its path is where the hub answers",
        |options, text| options.config.set_public_url(text)
    )
    .needs_restart(),
    setting!(
        TLS,
        "tls_cert",
        List("PATH"),
        "",
        "PEM files, each with a certificate and its chain: with them the hub speaks TLS, at listen. A client gets the one for the name that it asks for, else the first",
        |options, text| {
            options.tls.certificates = list(text).into_iter().map(Into::into).collect();
            Ok(())
        }
    ),
    setting!(
        TLS,
        "tls_key",
        List("PATH"),
        "",
        "PEM files with the private keys of tls_cert, in the same order",
        |options, text| {
            options.tls.keys = list(text).into_iter().map(Into::into).collect();
            Ok(())
        }
    ),
    setting!(
        TLS,
        "tls_client_ca",
        List("PATH"),
        "",
        "PEM files of authorities: with them the hub asks its clients for certificates, and refuses those that others have signed. A subscriber needs none",
        |options, text| {
            options.tls.client_authorities = list(text).into_iter().map(Into::into).collect();
            Ok(())
        }
    ),
    setting!(
        TLS,
        "tls_client_publish",
        Text("NEED"),
        "",
        "needed, as without this setting: a publisher needs a client certificate beside its token; enough: one with a certificate needs no token, and may publish on every topic",
        |options, text| store(&mut options.tls.client_publish, publisher_certificate(text).map(Some))
    ),
    setting!(
        TLS,
        "acme_domains",
        List("NAME"),
        "",
        "Names of this hub, for which it gets a certificate from a certification authority (ACME), and renews it in time; listen is then 0.0.0.0:443 unless it is given",
        |options, text| {
            options.acme.domains = list(text);
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_email",
        Text("ADDRESS"),
        "",
        "Where the authority writes to about the account",
        |options, text| {
            options.acme.email = Some(text.to_owned());
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_directory",
        Text("URL"),
        "https://acme-v02.api.letsencrypt.org/directory",
        "The authority: the URL of its ACME directory",
        |options, text| {
            text.clone_into(&mut options.acme.directory);
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_ca",
        Text("PATH"),
        "",
        "A PEM file with the certificate that a private authority's own one is signed with",
        |options, text| {
            options.acme.ca = Some(text.into());
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_challenge",
        Text("KIND"),
        "tls-alpn-01",
        "How the authority sees that a name leads here: tls-alpn-01, at port 443; http-01, at port 80, with redirect_listen",
        |options, text| store(&mut options.acme.proof, Proof::parse(text))
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_cache",
        Text("PATH"),
        "",
        "A directory for the account, certificates and their keys, instead of the log's store",
        |options, text| {
            options.acme.cache = Some(text.into());
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_eab_key_id",
        Text("ID"),
        "",
        "An account that you have at the authority (external account binding): its key identifier",
        |options, text| {
            options.acme.eab_key_id = Some(text.to_owned());
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "acme_eab_key",
        Kind::Secret("KEY"),
        "",
        "The key of that account, in base64url",
        |options, text| {
            options.acme.eab_key = Some(Secret::new(text));
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        TLS,
        "tls_dev",
        Switch,
        "false",
        "For development: TLS with a certificate for localhost, 127.0.0.1 and ::1, signed by an authority of this machine's user",
        |options, text| store(&mut options.tls_dev, switch(text))
    )
    .needs_restart(),
    setting!(
        TLS,
        "redirect_listen",
        Text("HOST:PORT"),
        "",
        "Address and port for plain HTTP, such as 0.0.0.0:80: it sends browsers to the same address with https, and answers http-01",
        |options, text| store(&mut options.redirect, text.parse().map(Some))
    )
    .needs_restart(),
    setting!(
        HUB,
        "compat",
        Switch,
        "false",
        "Serve protocol 0.x, too: its topic parameters, tokens, cookie and tokens in URLs",
        |options, text| store(&mut options.config.http.issuers.compat, switch(text))
    ),
    setting!(
        HUB,
        "http2",
        Switch,
        "true",
        "Speak HTTP/2, too: over TLS where clients offer it, else where a connection begins with its preface",
        |options, text| store(&mut options.config.http.http2, switch(text))
    ),
    setting!(
        HUB,
        "alt_svc",
        Text("SERVICES"),
        "",
        "Value of the field Alt-Svc in every answer, such as h3=\":443\", where a proxy in front speaks HTTP/3",
        |options, text| store(&mut options.config.http.alt_svc, AlternativeServices::parse(text).map(Some))
    ),
    setting!(
        HUB,
        "log",
        Text("FILTER"),
        "info",
        "What is logged: error, warn, info or debug, also for a part of the hub, such as info,petasos_hub=debug",
        |options, text| store(&mut options.log, telemetry::check_filter(text).map(|()| text.to_owned()))
    ),
    setting!(
        LOG,
        "transport" | "MERCURE_HUB_TRANSPORT",
        Kind::Secret("URL"),
        "memory:",
        "Where the log is: memory:, host:///DIRECTORY, durable:///DIRECTORY, redis://HOST, nats://HOST or \
         postgres://HOST/DATABASE",
        |options, text| store(&mut options.config.log, Log::parse(text).map_err(|error| error.to_string()))
    )
    .needs_restart(),
    setting!(
        LOG,
        "history",
        Text("UPDATES"),
        "500 in memory, 10000 in a host's log, 100000 elsewhere",
        "Updates that are kept for subscribers that reconnect; 0: none",
        |options, text| store(&mut options.config.log.retention.entries_max, number(text))
    )
    .needs_restart(),
    setting!(
        LOG,
        "history_bytes",
        Text("BYTES"),
        "33554432 in a host's log",
        "Bytes of updates that are kept, if the transport can bound them",
        |options, text| store(
            &mut options.config.log.retention.bytes_max,
            number(text).and_then(kept).map(Some)
        )
    )
    .needs_restart(),
    setting!(
        LOG,
        "history_age",
        Text("DURATION"),
        "",
        "How long updates are kept, if the transport can bound their age",
        |options, text| store(
            &mut options.config.log.retention.age_max,
            duration(text).and_then(kept).map(Some)
        )
    )
    .needs_restart(),
    setting!(
        HUB,
        "subscriptions",
        Switch,
        "true",
        "Announce and list active subscriptions",
        |options, text| store(&mut options.config.hub.subscriptions, switch(text))
    )
    .needs_restart(),
    setting!(
        HUB,
        "drain_delay",
        Text("DURATION"),
        "5s",
        "How long a hub that stops goes on while /readyz answers 503, for load balancers that look at it; 0: not at all",
        |options, text| store(&mut options.ending.delay, duration(text))
    ),
    setting!(
        HUB,
        "drain",
        Text("DURATION"),
        "30s",
        "After drain_delay: the time over which streams are closed evenly, and which open requests have; 0: none",
        |options, text| store(&mut options.ending.drain, duration(text))
    ),
    setting!(
        HUB,
        "stop_timeout" | "STOP_TIMEOUT",
        Text("DURATION"),
        "90s under systemd, 30s in Kubernetes, 10s in a container",
        "When the system kills a process that was told to stop: TimeoutStopSec, terminationGracePeriodSeconds; 0: never",
        |options, text| store(&mut options.ending.stop_timeout, duration(text).map(Some))
    ),
    setting!(
        HUB,
        "takeover",
        Text("PATH"),
        "",
        "A Unix socket: a hub that starts with the same path takes over the listening sockets of the one that runs",
        |options, text| {
            options.takeover = Some(text.into());
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        HUB,
        "idle_timeout",
        Text("DURATION"),
        "75s",
        "How long the hub keeps a connection that waits for its next request; give more than proxies in front do",
        |options, text| store(&mut options.config.http.idle_timeout, duration(text).and_then(idle_timeout))
    ),
    setting!(
        OPERATORS,
        "admin_listen",
        Text("HOST:PORT"),
        "127.0.0.1:5501",
        "Address and port of metrics, health and status for operators; off: none. If the default port is in use, the hub warns and starts without it",
        |options, text| store(&mut options.admin.listen, AdminListen::parse(text))
    )
    .needs_restart(),
    setting!(
        OPERATORS,
        "admin_token",
        Kind::Secret("TOKEN"),
        "",
        "Bearer token for /metrics, /status and POST /reload; required unless admin_listen is on loopback",
        |options, text| {
            options.admin.token = Some(Secret::new(text));
            Ok(())
        }
    )
    .needs_restart(),
    setting!(
        OPERATORS,
        "metrics_groups",
        List("TEMPLATE"),
        "",
        "URI templates of topics, 100 at most; updates and deliveries of each are counted",
        |options, text| store(&mut options.config.hub.metrics_groups, groups(text))
    )
    .needs_restart(),
    setting!(
        TOKENS,
        "resource",
        Text("ID"),
        "the public URL",
        "The resource identifier: the audience (aud) of 1.0 tokens",
        |options, text| store(&mut options.config.http.issuers.resource, resource(text))
    ),
    setting!(
        TOKENS,
        "issuer" | "MERCURE_TRUSTED_ISSUERS",
        Text("ID"),
        "the origin of the public URL",
        "The issuer (iss) of the tokens that the following keys verify",
        |options, text| {
            options.issuer.id = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_key" | "MERCURE_PUBLISHER_JWT_KEY",
        Kind::Secret("KEY"),
        "",
        "Verifies publishers' tokens: a shared secret, or a public key in PEM",
        |options, text| {
            options.issuer.publisher.key = Some(Secret::new(text));
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_key_file",
        Text("PATH"),
        "",
        "A file that holds the publishers' key; a line break at its end is ignored",
        |options, text| key_from_file(&mut options.issuer.publisher, text)
    ),
    setting!(
        TOKENS,
        "publisher_jwks",
        Text("PATH"),
        "",
        "A file with a JWK Set that verifies publishers' tokens",
        |options, text| {
            options.issuer.publisher.jwks = Some(text.into());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_jwks_url",
        Text("URL"),
        "",
        "URL of a JWK Set that verifies publishers' tokens; \"discover\": the URL in the issuer's metadata",
        |options, text| {
            options.issuer.publisher.jwks_url = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_algorithms" | "MERCURE_PUBLISHER_JWT_ALG",
        List("ALG"),
        "all that fit the key",
        "Algorithms that publishers' tokens may use: HS256, RS256, PS256, ES256, EdDSA, …",
        |options, text| {
            options.issuer.publisher.algorithms = list(text);
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_key" | "MERCURE_SUBSCRIBER_JWT_KEY",
        Kind::Secret("KEY"),
        "",
        "Verifies subscribers' tokens: a shared secret, or a public key in PEM",
        |options, text| {
            options.issuer.subscriber.key = Some(Secret::new(text));
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_key_file",
        Text("PATH"),
        "",
        "A file that holds the subscribers' key; a line break at its end is ignored",
        |options, text| key_from_file(&mut options.issuer.subscriber, text)
    ),
    setting!(
        TOKENS,
        "subscriber_jwks",
        Text("PATH"),
        "",
        "A file with a JWK Set that verifies subscribers' tokens",
        |options, text| {
            options.issuer.subscriber.jwks = Some(text.into());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_jwks_url",
        Text("URL"),
        "",
        "URL of a JWK Set that verifies subscribers' tokens; \"discover\": the URL in the issuer's metadata",
        |options, text| {
            options.issuer.subscriber.jwks_url = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_algorithms" | "MERCURE_SUBSCRIBER_JWT_ALG",
        List("ALG"),
        "all that fit the key",
        "Algorithms that subscribers' tokens may use",
        |options, text| {
            options.issuer.subscriber.algorithms = list(text);
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "authorization_server",
        Switch,
        "false",
        "The hub's metadata says that clients can ask the issuer for tokens",
        |options, text| store(&mut options.issuer.authorization_server, switch(text))
    ),
    setting!(
        TOKENS,
        "issuers",
        Tables,
        "",
        "More issuers, each a table with the keys issuer, publisher_key and so on",
        |options, text| store(&mut options.config.issuers, issuers(text))
    ),
    setting!(
        TOKENS,
        "key_files_interval",
        Text("DURATION"),
        "1m",
        "How often key files are looked at, whose changes count at once; 0: only for a reload",
        |options, text| store(&mut options.key_files_interval, duration(text))
    )
    .needs_restart(),
    setting!(
        TOKENS,
        "revoke_on_reload",
        Switch,
        "true",
        "End the streams that a reload would not let in, evenly over a minute",
        |options, text| store(&mut options.revoke_on_reload, switch(text))
    ),
    setting!(
        TOKENS,
        "anonymous",
        Switch,
        "false",
        "Let subscribers without a token receive public updates",
        |options, text| store(&mut options.config.http.anonymous, switch(text))
    ),
    setting!(
        BROWSERS,
        "cookie_name",
        Text("NAME"),
        "__Secure-mercure_access_token",
        "Name of the cookie that may hold a token",
        |options, text| store(&mut options.config.http.cookie_name, cookie_name(text))
    ),
    setting!(
        BROWSERS,
        "legacy_cookie_name",
        Text("NAME"),
        "mercureAuthorization",
        "With compat: name of another cookie that may hold a token",
        |options, text| store(&mut options.config.http.legacy_cookie_name, cookie_name(text).map(Some))
    ),
    setting!(
        BROWSERS,
        "cors_origins",
        List("ORIGIN"),
        "",
        "Origins whose pages may use the hub, with cookies, also https://*.example.com; \"*\": all, without cookies",
        |options, text| store(&mut options.config.http.cors, origins(&list(text)))
    ),
    setting!(
        BROWSERS,
        "publish_origins",
        List("ORIGIN"),
        "",
        "Origins, beside the hub's own, whose pages may publish with a cookie, also https://*.example.com",
        |options, text| store(&mut options.config.http.publish_origins, publish_origins(&list(text)))
    ),
    setting!(
        STREAMS,
        "keep_alive",
        Text("DURATION"),
        "15s",
        "Silence after which a stream sends a sign of life; 0: never",
        |options, text| store(&mut options.config.hub.keep_alive, duration(text).map(Some))
    ),
    setting!(
        STREAMS,
        "retry",
        Text("DURATION"),
        "3s",
        "How long browsers wait before they connect again, a tenth more or less; 0: as they like",
        |options, text| store(&mut options.config.hub.retry, duration(text).map(Some))
    ),
    setting!(
        STREAMS,
        "max_lifetime",
        Text("DURATION"),
        "1h",
        "How long a stream may last; then the subscriber comes back with its token; 0: no limit",
        |options, text| store(&mut options.config.hub.lifetime_max, duration(text).map(Some))
    ),
    setting!(
        STREAMS,
        "write_timeout",
        Text("DURATION"),
        "1m",
        "How long a subscriber may acknowledge nothing of what was sent; then its stream ends",
        |options, text| store(&mut options.config.http.write_timeout, duration(text).and_then(write_timeout))
    )
    .needs_restart(),
    setting!(
        STREAMS,
        "max_subscribers",
        Text("STREAMS"),
        "100000",
        "Streams that may be open at once; 0: any number",
        |options, text| store(&mut options.config.http.streams.total, number(text))
    ),
    setting!(
        STREAMS,
        "max_subscribers_bytes",
        Text("BYTES"),
        "a quarter of the memory, 536870912 at most",
        "Memory for the matchers and tokens of all subscribers; 0: any number",
        |options, text| store(
            &mut options.config.hub.subscribers_bytes_max,
            number(text).map(unbounded_if_zero)
        )
    ),
    setting!(
        STREAMS,
        "max_subscribers_per_address",
        Text("STREAMS"),
        "0",
        "Streams that may be open from one address; 0: any number",
        |options, text| store(&mut options.config.http.streams.per_address, number(text))
    ),
    setting!(
        STREAMS,
        "max_subscribers_per_token",
        Text("STREAMS"),
        "0",
        "Streams that may be open with one token; 0: any number",
        |options, text| store(&mut options.config.http.streams.per_token, number(text))
    ),
    setting!(
        STREAMS,
        "trusted_proxies",
        List("NETWORK"),
        "",
        "Proxies (addresses, networks) whose X-Forwarded-For names the client",
        |options, text| {
            let networks = list(text);
            store(&mut options.config.http.proxies, Proxies::parse(networks.iter().map(String::as_str)))
        }
    ),
    setting!(LIMITS, "max_body_bytes", Text("BYTES"), "1048576", "The body of a request", |options, text| {
        store(&mut options.config.http.limits.body_bytes_max, positive(text))
    }),
    setting!(
        LIMITS,
        "max_fields",
        Text("NUMBER"),
        "1000",
        "Fields of one form, or parameters of one query",
        |options, text| store(&mut options.config.http.limits.fields_max, positive(text))
    ),
    setting!(LIMITS, "max_topics", Text("NUMBER"), "100", "Topics of one update", |options, text| store(
        &mut options.config.http.limits.topics_max,
        positive(text)
    )),
    setting!(LIMITS, "max_topic_bytes", Text("BYTES"), "4096", "One topic", |options, text| store(
        &mut options.config.http.limits.topic_bytes_max,
        positive(text)
    )),
    setting!(
        LIMITS,
        "max_id_bytes",
        Text("BYTES"),
        "1024",
        "The id of an update; also its type",
        |options, text| store(&mut options.config.http.limits.id_bytes_max, positive(text))
    ),
    setting!(LIMITS, "max_matchers", Text("NUMBER"), "100", "Matchers of one subscriber", |options, text| {
        store(&mut options.config.http.limits.matchers_max, positive(text))
    }),
    setting!(LIMITS, "max_matcher_bytes", Text("BYTES"), "4096", "One matcher", |options, text| store(
        &mut options.config.http.limits.matcher_bytes_max,
        positive(text)
    )),
    setting!(
        LIMITS,
        "max_cursors",
        Text("NUMBER"),
        "16",
        "Different cursors (last event ids) in one request",
        |options, text| store(&mut options.config.http.limits.cursors_max, positive(text))
    ),
    setting!(
        LIMITS,
        "max_cookie_tokens",
        Text("NUMBER"),
        "8",
        "Different tokens in the cookies of one request",
        |options, text| store(&mut options.config.http.limits.cookie_tokens_max, positive(text))
    ),
    setting!(
        LIMITS,
        "max_matchers_bytes",
        Text("BYTES"),
        "262144",
        "Memory for all matchers of one subscriber, compiled",
        |options, text| store(&mut options.config.http.limits.matchers_bytes_max, positive(text))
    ),
    setting!(
        LIMITS,
        "max_token_bytes",
        Text("BYTES"),
        "16384",
        "One token, in its encoded form",
        |options, text| store(&mut options.config.http.limits.token_bytes_max, positive(text))
    ),
    setting!(
        LIMITS,
        "max_token_details",
        Text("NUMBER"),
        "100",
        "Mercure authorization details of one token",
        |options, text| store(&mut options.config.http.limits.token_details_max, positive(text))
    ),
    setting!(
        LIMITS,
        "max_token_matchers",
        Text("NUMBER"),
        "1000",
        "Matchers in all grants of one token",
        |options, text| store(&mut options.config.http.limits.token_matchers_max, positive(text))
    ),
];
