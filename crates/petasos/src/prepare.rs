//! From the settings of an operator to a hub that could start: for a start, a reload and `petasos check` alike.

use std::time::SystemTime;

use petasos::{Checked, Config, ConfigError, IssuerConfig, KeyConfig, Secret, Warning};
use petasos_server::ClientAuthorities;

use crate::{
    certificates::FromFile,
    development::TLS_DEV,
    failure::Failure,
    settings::{Address, HTTPS_PORT, Options},
};

/// Settings that a hub can start with, or go on with.
pub(crate) struct Prepared {
    pub(crate) checked: Checked,
    /// The issuer that the settings outside `issuers` describe, perhaps with generated keys.
    pub(crate) issuer: IssuerConfig,
    /// Empty: the hub speaks no TLS.
    pub(crate) certificates: Vec<FromFile>,
    /// `None`: clients are asked for no certificate.
    pub(crate) client_authorities: Option<ClientAuthorities>,
    pub(crate) warnings: Vec<Warning>,
}

/// Random keys, for a hub that somebody tries.
#[derive(Clone)]
pub(crate) struct Generated {
    publisher: Secret,
    subscriber: Secret,
}

/// Whether there is no key at all.
pub(crate) fn lacks_keys(options: &Options) -> bool {
    let keyless = IssuerConfig { id: options.issuer.id.clone(), ..IssuerConfig::default() };
    options.issuer == keyless && options.config.issuers.is_empty()
}

impl Generated {
    pub(crate) fn new() -> Self {
        Self { publisher: Secret::random(), subscriber: Secret::random() }
    }
}

/// Checks what a hub that listens needs: somebody can subscribe, and `--dev` opens no hub to other machines by mistake.
/// `generated`: the keys of a hub without any.
///
/// # Errors
/// The first setting that is wrong, and what to write instead.
pub(crate) fn hub(mut options: Options, generated: Option<&Generated>) -> Result<Prepared, Failure> {
    let is_generated = match generated.filter(|_| lacks_keys(&options)) {
        Some(Generated { publisher, subscriber }) => {
            options.issuer.publisher.key = Some(publisher.clone());
            options.issuer.subscriber.key = Some(subscriber.clone());
            true
        }
        None => false,
    };
    let subscribers = |issuer: &IssuerConfig| issuer.subscriber != KeyConfig::default();
    if !options.config.http.anonymous
        && !subscribers(&options.issuer)
        && !options.config.issuers.iter().any(subscribers)
    {
        return Err("nobody could subscribe: give --subscriber-key, or let everyone with --anonymous".into());
    }
    let exposed = if options.is_for_development { exposure(&options, is_generated)? } else { None };
    let issuer = options.issuer.clone();
    options.admin.check().map_err(options.explain())?;
    options.warnings.extend(options.ending_in_force().warning());
    let certificates = options.tls.read().map_err(options.explain())?;
    let client_authorities =
        options.tls.read_client_authorities(options.has_tls()).map_err(options.explain())?;
    options.config.http.publisher_certificate = options.tls.publisher_certificate();
    let public_url = Some(&options.config.hub.url).filter(|_| options.config.http.advertise);
    let from_files: Vec<_> = certificates.iter().map(|each| &each.certificate).collect();
    let warnings = match options.acme.is_given() {
        true => {
            // A certificate from a file may be for another name.
            let mut warnings = options.tls.warnings(&certificates, None, SystemTime::now());
            warnings.extend(options.acme.warning(&from_files, public_url));
            warnings
        }
        false => options.tls.warnings(&certificates, public_url, SystemTime::now()),
    };
    options.warnings.extend(warnings);
    if options.tls_dev
        && let Some(other) = options.has_certificates()
    {
        let problem =
            format!("{other} is given, too, and tls_dev is for development alone: leave out one of the two");
        return Err(options.explain()(ConfigError { setting: TLS_DEV, problem }).into());
    }
    if options.tls_dev && !options.listen.is_loopback() {
        let problem = "other machines reach this hub, and do not trust its certificate: tls_dev is for development, so let the \
                       hub listen on 127.0.0.1, or give acme_domains or tls_cert instead";
        options.warnings.push(Warning { setting: TLS_DEV, problem: problem.to_owned() });
    }
    if options.redirect.is_some() && !options.has_tls() {
        let problem = "the hub speaks no TLS, so there is nothing to redirect to: give acme_domains or tls_cert, or leave it out";
        let wrong = ConfigError { setting: "redirect_listen", problem: problem.to_owned() };
        return Err(options.explain()(wrong).into());
    }
    options.acme.check(&from_files, options.redirect.is_some()).map_err(options.explain())?;
    let (checked, mut warnings) = check(options, true)?;
    warnings.extend(exposed);
    Ok(Prepared { checked, issuer, certificates, client_authorities, warnings })
}

/// Checks the settings of a hub. `starts`: whether the hub will listen at `options.listen`. Other machines do not reach a
/// hub that does not start.
///
/// # Errors
/// The first setting that is wrong, and what to write instead.
pub(crate) fn check(options: Options, starts: bool) -> Result<(Checked, Vec<Warning>), Failure> {
    let explain = options.explain();
    let scheme = options.scheme();
    let Options { mut config, issuer, listen, acme, mut warnings, .. } = options;
    if let Some(domain) = acme.domains.first().filter(|_| !config.http.advertise) {
        config.set_public_url(&match listen.port {
            0 | HTTPS_PORT => format!("https://{domain}/.well-known/mercure"),
            port => format!("https://{domain}:{port}/.well-known/mercure"),
        })?;
    }
    config.exposed = starts && !is_local(&listen, &config);
    if !config.http.advertise {
        config.set_public_url(&match listen.port {
            0 => format!("{scheme}://localhost/.well-known/mercure"),
            port => format!("{scheme}://localhost:{port}/.well-known/mercure"),
        })?;
    }
    config.issuers.insert(0, issuer);
    config.own_process = true;
    let checked = config.check().map_err(explain)?;
    warnings.extend(checked.warnings().iter().cloned());
    Ok((checked, warnings))
}

/// Logs warnings about settings.
pub(crate) fn log(warnings: &[Warning]) {
    for Warning { setting, problem } in warnings {
        tracing::warn!(setting, "{problem}");
    }
}

/// Checks that `--dev` opens no hub to other machines by mistake. `is_generated`: whether the keys are random.
fn exposure(options: &Options, is_generated: bool) -> Result<Option<Warning>, Failure> {
    if is_local(&options.listen, &options.config) {
        return Ok(None);
    }
    let remedy = "leave out --listen and --public-url, or leave out --dev and give what the hub is to allow: --anonymous, \
                  --cors-origins, --compat";
    if is_generated {
        return Err(format!(
            "--dev lets everybody read, so other machines must not reach the hub unless it has keys of your own: {remedy}"
        )
        .into());
    }
    let problem = format!("--dev lets everybody read, and other machines reach this hub: {remedy}");
    Ok(Some(Warning { setting: "dev", problem }))
}

/// Whether only this machine reaches a hub that listens at `listen`. A public URL elsewhere shows that a proxy passes
/// requests on.
fn is_local(listen: &Address, config: &Config) -> bool {
    let is_loopback = |host: &str| Address { host: host.to_owned(), port: 0 }.is_loopback();
    let public_host = config.hub.url.as_url().host_str().filter(|_| config.http.advertise);
    listen.is_loopback() && public_host.is_none_or(|host| is_loopback(host.trim_matches(['[', ']'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_local_if_it_listens_on_loopback_and_no_public_url_leads_to_it() {
        for (listen, public_url, local) in [
            ("127.0.0.1:5500", None, true),
            ("[::1]:0", Some("http://[::1]:80/.well-known/mercure"), true),
            ("localhost:1", Some("https://localhost/.well-known/mercure"), true),
            ("127.8.0.1:1", Some("https://hub.example/.well-known/mercure"), false),
            ("0.0.0.0:5500", None, false),
            ("[::]:5500", Some("http://localhost/.well-known/mercure"), false),
            ("192.168.0.1:1", None, false),
            ("localhost.example:1", None, false),
        ] {
            let mut config = Config::default();
            if let Some(url) = public_url {
                config.set_public_url(url).expect("a URL");
            }
            let address = listen.parse().expect("an address");
            assert_eq!(is_local(&address, &config), local, "{listen} {public_url:?}");
        }
    }
}
