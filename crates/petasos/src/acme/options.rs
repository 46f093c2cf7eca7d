//! What an operator has decided about ACME.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use petasos::{ConfigError, Log, Secret, Warning};
use petasos_protocol::topic::HubUrl;
use petasos_server::Certificate;
use petasos_transports::{DocumentDirectory, documents_beside};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::certificates::host;

/// What an operator has decided.
#[derive(Debug, Clone)]
pub(crate) struct AcmeOptions {
    /// The names of one certificate, the first one first. Empty: there is no ACME.
    pub(crate) domains: Vec<String>,
    /// Where the authority writes to when something is wrong with the account.
    pub(crate) email: Option<String>,
    /// The URL of the authority.
    pub(crate) directory: String,
    /// A file with the certificate that the authority's own one is signed with.
    pub(crate) ca: Option<PathBuf>,
    /// Where accounts and certificates are kept, instead of the log's store.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) proof: Proof,
    /// An account that the operator has at the authority (RFC 8555, section 7.3.4).
    pub(crate) eab_key_id: Option<String>,
    pub(crate) eab_key: Option<Secret>,
}

/// How the authority sees that a name leads to this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// At port 443, which is the hub's own (RFC 8737).
    Tls,
    /// At port 80, which is that of the redirection (RFC 8555, section 8.3).
    Http,
}

/// The settings.
pub(crate) const ACME_DOMAINS: &str = "acme_domains";
pub(super) const ACME_EMAIL: &str = "acme_email";
const ACME_DIRECTORY: &str = "acme_directory";
const ACME_CA: &str = "acme_ca";
const ACME_EAB_KEY: &str = "acme_eab_key";
const ACME_EAB_KEY_ID: &str = "acme_eab_key_id";
const ACME_CACHE: &str = "acme_cache";
const ACME_CHALLENGE: &str = "acme_challenge";

/// Let's Encrypt.
pub(crate) const DEFAULT_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Names of one certificate. Authorities take a hundred at most.
const DOMAINS_MAX: usize = 32;

/// A name in DNS (RFC 1035, section 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;

/// Far more than a certificate has.
const CA_BYTES_MAX: u64 = 1024 * 1024;

impl Default for AcmeOptions {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            email: None,
            directory: DEFAULT_DIRECTORY.to_owned(),
            ca: None,
            cache: None,
            proof: Proof::Tls,
            eab_key_id: None,
            eab_key: None,
        }
    }
}

impl Proof {
    /// As authorities call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls-alpn-01",
            Self::Http => "http-01",
        }
    }

    /// As it is written in the settings.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "tls-alpn-01" => Ok(Self::Tls),
            "http-01" => Ok(Self::Http),
            _ => Err("write tls-alpn-01, or http-01 with redirect_listen".to_owned()),
        }
    }
}

impl AcmeOptions {
    /// Whether the hub gets certificates by ACME.
    pub(crate) fn is_given(&self) -> bool {
        !self.domains.is_empty()
    }

    /// Checks everything that needs no authority. `from_files`: the certificates of the settings; `redirects`: whether the hub
    /// listens for plain HTTP.
    ///
    /// # Errors
    /// The first setting that is wrong, and what to write instead.
    pub(crate) fn check(&self, from_files: &[&Certificate], redirects: bool) -> Result<(), ConfigError> {
        let problem = |setting, problem: String| Err(ConfigError { setting, problem });
        if !self.is_given() {
            return match self.without_names() {
                Some(setting) => problem(
                    setting,
                    format!("{ACME_DOMAINS} is not given, so there is no ACME: give it, or leave this out"),
                ),
                None => Ok(()),
            };
        }
        if self.domains.len() > DOMAINS_MAX {
            return problem(
                ACME_DOMAINS,
                format!("there are {} names: give {DOMAINS_MAX} at most", self.domains.len()),
            );
        }
        for (index, domain) in self.domains.iter().enumerate() {
            if self.domains[..index].contains(domain) {
                return problem(ACME_DOMAINS, format!("\"{domain}\" is there twice: write it once"));
            }
            if let Some(text) = domain_problem(domain) {
                return problem(ACME_DOMAINS, format!("\"{domain}\" {text}"));
            }
            if from_files.iter().any(|certificate| certificate.is_for(domain)) {
                return problem(
                    ACME_DOMAINS,
                    format!(
                        "tls_cert has a certificate for {domain} already: leave the name out of one of the two"
                    ),
                );
            }
        }
        if self.email.as_ref().is_some_and(|email| !is_email(email)) {
            return problem(ACME_EMAIL, "write one address, such as ops@example.com".to_owned());
        }
        let url =
            url::Url::parse(&self.directory).ok().filter(|url| url.scheme() == "https" && url.has_host());
        if url.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
            return problem(
                ACME_DIRECTORY,
                "write the https URL of the authority's directory, without a user or a password".to_owned(),
            );
        }
        if self.proof == Proof::Http && !redirects {
            return problem(
                ACME_CHALLENGE,
                "http-01 needs port 80, and redirect_listen is not given: give it, such as 0.0.0.0:80, or leave out \
                 acme_challenge"
                    .to_owned(),
            );
        }
        match (&self.eab_key_id, &self.eab_key) {
            (Some(_), None) => {
                problem(ACME_EAB_KEY_ID, format!("{ACME_EAB_KEY} is not given: give both, or leave out both"))
            }
            (None, Some(_)) => {
                problem(ACME_EAB_KEY, format!("{ACME_EAB_KEY_ID} is not given: give both, or leave out both"))
            }
            _ => self.external_key().and_then(|_| self.roots()).map(drop),
        }
    }

    /// A setting that does nothing without names, if one is given.
    fn without_names(&self) -> Option<&'static str> {
        let default = Self::default();
        let given = [
            (ACME_EMAIL, self.email.is_some()),
            (ACME_DIRECTORY, self.directory != default.directory),
            (ACME_CA, self.ca.is_some()),
            (ACME_CHALLENGE, self.proof != default.proof),
            (ACME_CACHE, self.cache.is_some()),
            (ACME_EAB_KEY_ID, self.eab_key_id.is_some()),
            (ACME_EAB_KEY, self.eab_key.is_some()),
        ];
        given.into_iter().find_map(|(setting, is_given)| is_given.then_some(setting))
    }

    /// What works and is probably not meant. `public_url`: `None` if it is not given.
    pub(crate) fn warning(
        &self,
        from_files: &[&Certificate],
        public_url: Option<&HubUrl>,
    ) -> Option<Warning> {
        let url = public_url.filter(|_| self.is_given())?;
        let host = host(url);
        if url.as_url().scheme() == "http" {
            let problem = "it begins with http, and the hub speaks TLS: write https".to_owned();
            return Some(Warning { setting: "public_url", problem });
        }
        let is_there = self.domains.iter().any(|domain| domain == host)
            || from_files.iter().any(|certificate| certificate.is_for(host));
        let problem = format!(
            "{host}, the host of public_url, is not among the names, so clients refuse the hub unless a proxy in front has a \
             certificate for it: add the name, or correct public_url"
        );
        (!is_there).then_some(Warning { setting: ACME_DOMAINS, problem })
    }

    /// The directory where accounts and certificates are kept, unless the nodes of the log share a store. `variable`: a variable
    /// of the environment.
    ///
    /// # Errors
    /// If there is none that a user would expect.
    pub(crate) fn place(
        &self,
        log: &Log,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<DocumentDirectory, ConfigError> {
        if let Some(path) = &self.cache {
            return Ok(DocumentDirectory::new(path));
        }
        if let Some(beside) = documents_beside(log.dsn()) {
            return Ok(beside);
        }
        match state_directory(variable) {
            Some(path) => Ok(DocumentDirectory::new(path.join("acme"))),
            None => Err(ConfigError {
                setting: ACME_CACHE,
                problem: "there is no place for the certificate and its key: give a directory, such as /var/lib/petasos/acme"
                    .to_owned(),
            }),
        }
    }

    /// The key of the operator's account at the authority.
    ///
    /// # Errors
    /// It is no base64url.
    pub(super) fn external_key(&self) -> Result<Option<(&str, Vec<u8>)>, ConfigError> {
        let (Some(id), Some(key)) = (&self.eab_key_id, &self.eab_key) else { return Ok(None) };
        let text = key.expose().trim_ascii_end();
        let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
        match BASE64_URL_SAFE_NO_PAD.decode(text) {
            Ok(key) if !key.is_empty() => Ok(Some((id, key))),
            _ => Err(ConfigError {
                setting: ACME_EAB_KEY,
                problem: "it is no key: give what the authority shows, which has letters, digits, - and _"
                    .to_owned(),
            }),
        }
    }

    /// The certificates that the authority's own one must be signed with. `None`: those that the system believes.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, ConfigError> {
        let Some(path) = &self.ca else { return Ok(None) };
        let problem = |text: String| {
            let problem =
                format!("{}: {text}: give a file in PEM with the authority's certificate", path.display());
            ConfigError { setting: ACME_CA, problem }
        };
        let length = fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
        if length > CA_BYTES_MAX {
            return Err(problem("it has more than a megabyte".to_owned()));
        }
        let bytes = fs::read(path).map_err(|error| problem(error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(Some(found)),
            _ => Err(problem("there is no certificate in it that can be read".to_owned())),
        }
    }
}

/// Where this user's programs keep what they need at their next start: as systemd says (systemd.exec(5)), else as users' programs
/// do (XDG Base Directory Specification).
pub(crate) fn state_directory(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let path = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_service = variable("STATE_DIRECTORY").and_then(|all| Some(PathBuf::from(all.split(':').next()?)));
    of_service
        .filter(|path| path.is_absolute())
        .or_else(|| path("XDG_STATE_HOME").map(|path| path.join("petasos")))
        .or_else(|| path("HOME").map(|path| path.join(".local/state/petasos")))
}

/// What is wrong with a name, if anything.
fn domain_problem(domain: &str) -> Option<&'static str> {
    let is_label = |label: &str| {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.starts_with("*.") {
        return Some(
            "is for many names, which needs a proof in DNS: give each name, or a certificate as tls_cert",
        );
    }
    if domain.parse::<std::net::IpAddr>().is_ok() {
        return Some("is an address: give a name, or a certificate as tls_cert");
    }
    if domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(is_label) {
        return Some(
            "is no name of a host: write one such as hub.example.com, in lower case, and in its form of ASCII",
        );
    }
    match domain.contains('.') {
        true => None,
        false => Some(
            "is a name that this network alone knows: give one such as hub.example.com, or use --tls-dev",
        ),
    }
}

fn is_email(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",?\"<>".contains(&byte));
    let parts = text.split_once('@');
    is_plain
        && parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_setting_and_what_to_write() {
        let good = AcmeOptions { domains: vec!["hub.example.com".to_owned()], ..AcmeOptions::default() };
        assert!(good.check(&[], false).is_ok() && AcmeOptions::default().check(&[], false).is_ok());
        let domains = |names: &[&str]| AcmeOptions {
            domains: names.iter().map(|name| (*name).to_owned()).collect(),
            ..AcmeOptions::default()
        };
        let nothing = AcmeOptions::default;
        let many = vec!["a.example"; DOMAINS_MAX + 1];
        let directory = tempfile::tempdir().expect("a directory");
        let empty = directory.path().join("empty");
        fs::write(&empty, "").expect("written");
        for (options, setting, part) in [
            (domains(&many), ACME_DOMAINS, "give 32 at most"),
            (domains(&["a.example", "b.example", "a.example"]), ACME_DOMAINS, "write it once"),
            (domains(&["*.example.com"]), ACME_DOMAINS, "a proof in DNS"),
            (domains(&["192.0.2.1"]), ACME_DOMAINS, "is an address"),
            (domains(&["2001:db8::1"]), ACME_DOMAINS, "is an address"),
            (domains(&["localhost"]), ACME_DOMAINS, "--tls-dev"),
            (domains(&["Hub.example.com"]), ACME_DOMAINS, "in lower case"),
            (domains(&["https://hub.example.com"]), ACME_DOMAINS, "is no name of a host"),
            (domains(&["hub..example.com"]), ACME_DOMAINS, "is no name of a host"),
            (AcmeOptions { email: Some("ops".to_owned()), ..good.clone() }, ACME_EMAIL, "ops@example.com"),
            (
                AcmeOptions { directory: "http://ca.example/".to_owned(), ..good.clone() },
                ACME_DIRECTORY,
                "https",
            ),
            (AcmeOptions { proof: Proof::Http, ..good.clone() }, ACME_CHALLENGE, "redirect_listen"),
            (AcmeOptions { email: Some("ops@example.com".to_owned()), ..nothing() }, ACME_EMAIL, "no ACME"),
            (
                AcmeOptions { directory: "https://ca.example/".to_owned(), ..nothing() },
                ACME_DIRECTORY,
                "no ACME",
            ),
            (AcmeOptions { ca: Some(empty.clone()), ..nothing() }, ACME_CA, "no ACME"),
            (AcmeOptions { proof: Proof::Http, ..nothing() }, ACME_CHALLENGE, "no ACME"),
            (AcmeOptions { cache: Some(empty.clone()), ..nothing() }, ACME_CACHE, "no ACME"),
            (AcmeOptions { eab_key_id: Some("a".to_owned()), ..nothing() }, ACME_EAB_KEY_ID, "no ACME"),
            (AcmeOptions { eab_key: Some(Secret::new("a")), ..nothing() }, ACME_EAB_KEY, "no ACME"),
            (AcmeOptions { eab_key_id: Some("a".to_owned()), ..good.clone() }, ACME_EAB_KEY_ID, "give both"),
            (AcmeOptions { eab_key: Some(Secret::new("a")), ..good.clone() }, ACME_EAB_KEY, "give both"),
            (
                AcmeOptions {
                    eab_key_id: Some("a".to_owned()),
                    eab_key: Some(Secret::new("+sec/ret")),
                    ..good.clone()
                },
                ACME_EAB_KEY,
                "it is no key",
            ),
            (
                AcmeOptions { ca: Some(directory.path().join("none")), ..good.clone() },
                ACME_CA,
                "a file in PEM",
            ),
            (AcmeOptions { ca: Some(empty), ..good.clone() }, ACME_CA, "no certificate in it"),
        ] {
            let problem = options.check(&[], false).expect_err("a problem");
            assert_eq!(problem.setting, setting, "{problem}");
            assert!(problem.problem.contains(part) && !problem.problem.contains("sec/ret"), "{problem}");
        }
        assert!(AcmeOptions { proof: Proof::Http, ..good.clone() }.check(&[], true).is_ok());
        let warned = |options: &AcmeOptions, url: &str| {
            let warning = options.warning(&[], Some(&HubUrl::parse(url).expect("a URL")));
            warning.map(|warning| warning.setting)
        };
        assert_eq!(warned(&good, "https://hub.example.com/.well-known/mercure"), None);
        assert_eq!(warned(&good, "https://b.example.com/.well-known/mercure"), Some(ACME_DOMAINS));
        assert_eq!(warned(&good, "http://hub.example.com/.well-known/mercure"), Some("public_url"));
        assert_eq!(warned(&AcmeOptions::default(), "http://b.example.com/.well-known/mercure"), None);
        let key =
            AcmeOptions { eab_key_id: Some("a".to_owned()), eab_key: Some(Secret::new("AQID")), ..good };
        assert_eq!(key.external_key().expect("a key"), Some(("a", vec![1, 2, 3])));
        assert!(!format!("{key:?}").contains("AQID"));
    }
}
