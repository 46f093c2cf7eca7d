//! The certificates that the settings name: the files are read and checked, for a start, a reload and `petasos check` alike.
//!
//! Nothing here opens a socket. A problem names the setting, the file and the remedy, and never a part of a key.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use petasos::{ConfigError, Warning};
use petasos_protocol::topic::HubUrl;
use petasos_server::{
    Certificate, CertificateError, ClientAuthorities, PublisherCertificate, Tls, TlsError,
    metrics::{Samples, table::TLS_CERTIFICATE_EXPIRES_TIMESTAMP_SECONDS},
};
use zeroize::Zeroizing;

/// The files of certificates and keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsOptions {
    /// Each has a certificate and its chain.
    pub(crate) certificates: Vec<PathBuf>,
    /// The private keys, in the order of the certificates.
    pub(crate) keys: Vec<PathBuf>,
    /// Each has authorities that sign the certificates of clients.
    pub(crate) client_authorities: Vec<PathBuf>,
    /// What such a certificate means for a publisher; `None`: it is not given.
    pub(crate) client_publish: Option<PublisherCertificate>,
}

/// A certificate, and the file that it was read from.
pub(crate) struct FromFile {
    pub(crate) path: PathBuf,
    pub(crate) certificate: Certificate,
}

/// The certificates that clients may get, from files and by ACME. Clones share them.
#[derive(Clone)]
pub(crate) struct Certificates {
    tls: Tls,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Default)]
struct Parts {
    from_files: Vec<Certificate>,
    by_acme: Option<Certificate>,
}

impl Certificates {
    /// Of the certificates from files. Empty: clients are refused until there is one by ACME.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn new(from_files: Vec<Certificate>) -> Result<Self, TlsError> {
        let tls = Tls::waiting(from_files.clone())?;
        Ok(Self { tls, parts: Arc::new(Mutex::new(Parts { from_files, by_acme: None })) })
    }

    /// What listeners offer.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Replaces the certificates from files.
    pub(crate) fn set_from_files(&self, certificates: Vec<Certificate>) {
        self.parts().from_files = certificates;
        self.publish();
    }

    /// Replaces the certificate by ACME.
    pub(crate) fn set_acme(&self, certificate: Certificate) {
        self.parts().by_acme = Some(certificate);
        self.publish();
    }

    /// Whether there is a certificate.
    pub(crate) fn is_ready(&self) -> bool {
        !self.all().is_empty()
    }

    /// Whether a certificate is for a host.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        self.all().iter().any(|certificate| certificate.is_for(host))
    }

    /// Adds the values of each certificate.
    pub(crate) fn add(&self, samples: &mut Samples) {
        let mut names = BTreeMap::new();
        let (from_files, by_acme) = {
            let Parts { from_files, by_acme } = &*self.parts();
            (from_files.clone(), by_acme.clone())
        };
        let from_files = from_files.into_iter().map(|certificate| (certificate, "file"));
        for (certificate, source) in from_files.chain(by_acme.map(|certificate| (certificate, "acme"))) {
            let Some(expires) = certificate.expires() else { continue };
            let name = certificate.name().unwrap_or_default().to_owned();
            // Of two with one name, the one that expires first is the one to see to.
            let earliest = names.entry((name, source)).or_insert(expires);
            *earliest = expires.min(*earliest);
        }
        for ((name, source), expires) in names {
            let since = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            samples.push(&TLS_CERTIFICATE_EXPIRES_TIMESTAMP_SECONDS, &[&name, source], since.as_secs_f64());
        }
    }

    fn all(&self) -> Vec<Certificate> {
        let parts = self.parts();
        parts.from_files.iter().chain(&parts.by_acme).cloned().collect()
    }

    fn publish(&self) {
        // It is refused only if there is none, and then the former ones stay.
        let _ = self.tls.set_certificates(self.all());
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings.
pub(crate) const TLS_CERT: &str = "tls_cert";
pub(crate) const TLS_KEY: &str = "tls_key";
pub(crate) const TLS_CLIENT_CA: &str = "tls_client_ca";
const TLS_CLIENT_PUBLISH: &str = "tls_client_publish";

/// Certificates of one hub. A handshake compares the name that the client asks for with each of them.
const CERTIFICATES_MAX: usize = 32;

/// Far more than a chain of certificates has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl TlsOptions {
    /// Whether the hub speaks TLS.
    pub(crate) fn is_given(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Reads the certificates and their keys. Empty: the hub speaks no TLS.
    ///
    /// # Errors
    /// The first file that cannot be used, and what to give instead.
    pub(crate) fn read(&self) -> Result<Vec<FromFile>, ConfigError> {
        self.check()?;
        let pairs = self.certificates.iter().zip(&self.keys);
        pairs
            .map(|(path, key)| Ok(FromFile { path: path.clone(), certificate: certificate(path, key)? }))
            .collect()
    }

    /// Reads the authorities for clients. `None`: clients are asked for no certificate. `has_tls`: whether the hub speaks TLS.
    ///
    /// # Errors
    /// The first file that cannot be used, and what to give instead.
    pub(crate) fn read_client_authorities(
        &self,
        has_tls: bool,
    ) -> Result<Option<ClientAuthorities>, ConfigError> {
        let problem = |problem| Err(ConfigError { setting: TLS_CLIENT_CA, problem });
        match self.client_authorities.len() {
            0 if self.client_publish.is_some() => {
                return Err(ConfigError {
                    setting: TLS_CLIENT_PUBLISH,
                    problem: format!(
                        "no client shows a certificate: give {TLS_CLIENT_CA}, or leave out {TLS_CLIENT_PUBLISH}"
                    ),
                });
            }
            0 => return Ok(None),
            _ if !has_tls => {
                return problem(format!(
                    "clients show certificates over TLS only: give {TLS_CERT} and {TLS_KEY}, or acme_domains, or leave out {TLS_CLIENT_CA}"
                ));
            }
            files if files > CERTIFICATES_MAX => {
                return problem(format!("there are {files} files: give {CERTIFICATES_MAX} at most"));
            }
            _ => {}
        }
        let mut all = Vec::new();
        for path in &self.client_authorities {
            let text = read(TLS_CLIENT_CA, path)?;
            if let Err(error) = ClientAuthorities::parse(&text) {
                let what = match error {
                    CertificateError::NoCertificate => {
                        "there is no certificate in it: give those of the authorities, in PEM".to_owned()
                    }
                    error => error.to_string(),
                };
                return problem(format!("{}: {what}", path.display()));
            }
            all.extend_from_slice(&text);
            all.push(b'\n');
        }
        ClientAuthorities::parse(&all).map(Some).or_else(|error| problem(error.to_string()))
    }

    /// What a client's certificate means for a publisher.
    pub(crate) fn publisher_certificate(&self) -> PublisherCertificate {
        match self.client_authorities.is_empty() {
            true => PublisherCertificate::Ignored,
            false => self.client_publish.unwrap_or(PublisherCertificate::Needed),
        }
    }

    /// Checks that each certificate has a key.
    fn check(&self) -> Result<(), ConfigError> {
        let problem = |setting, problem: String| Err(ConfigError { setting, problem });
        match (self.certificates.len(), self.keys.len()) {
            (0, 0) => Ok(()),
            (_, 0) => problem(
                TLS_CERT,
                format!(
                    "{TLS_KEY} is not given: give the files with the private keys as well, or leave out {TLS_CERT}"
                ),
            ),
            (0, _) => problem(
                TLS_KEY,
                format!(
                    "{TLS_CERT} is not given: give the files with the certificates as well, or leave out {TLS_KEY}"
                ),
            ),
            (certificates, _) if certificates > CERTIFICATES_MAX => problem(
                TLS_CERT,
                format!("there are {certificates} certificates: give {CERTIFICATES_MAX} at most"),
            ),
            (certificates, keys) if certificates != keys => problem(
                TLS_KEY,
                format!(
                    "{TLS_CERT} names {certificates} and {TLS_KEY} {keys}: give each certificate a key, in the same order"
                ),
            ),
            _ => Ok(()),
        }
    }

    /// What works and is probably not meant. `public_url`: `None` if it is not given.
    pub(crate) fn warnings(
        &self,
        found: &[FromFile],
        public_url: Option<&HubUrl>,
        now: SystemTime,
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (path, key) in self.certificates.iter().zip(&self.keys) {
            warnings.extend(Warning::for_open_file(TLS_KEY, key, true));
            if path != key {
                warnings.extend(Warning::for_open_file(TLS_CERT, path, false));
            }
        }
        for FromFile { path, certificate } in found {
            if let Some(expired) = certificate.expires().filter(|expires| *expires < now) {
                let problem = format!(
                    "{} has expired on {}, so clients refuse the hub: renew it, or give the file of the renewed one",
                    path.display(),
                    day(expired)
                );
                warnings.push(Warning { setting: TLS_CERT, problem });
            }
        }
        let Some(url) = public_url.filter(|_| self.is_given()) else { return warnings };
        if url.as_url().scheme() == "http" {
            let problem = "it begins with http, and the hub speaks TLS: write https".to_owned();
            warnings.push(Warning { setting: "public_url", problem });
        }
        let host = host(url);
        if !found.iter().any(|each| each.certificate.is_for(host)) {
            let problem = format!(
                "no certificate is for {host}, the host of public_url, so clients refuse the hub unless a proxy in front \
                 has one: give a certificate for {host}, or correct public_url"
            );
            warnings.push(Warning { setting: TLS_CERT, problem });
        }
        warnings
    }
}

/// The host of a URL: a name or an address, without brackets.
pub(crate) fn host(url: &HubUrl) -> &str {
    url.as_url().host_str().unwrap_or_default().trim_matches(['[', ']'])
}

/// The day of a time, such as `2027-01-31`.
pub(crate) fn day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

fn certificate(path: &Path, key_path: &Path) -> Result<Certificate, ConfigError> {
    let (chain, key) = (read(TLS_CERT, path)?, read(TLS_KEY, key_path)?);
    Certificate::parse(&chain, &key).map_err(|error| match error {
        CertificateError::NoCertificate | CertificateError::BadCertificate(_) => {
            ConfigError { setting: TLS_CERT, problem: format!("{}: {error}", path.display()) }
        }
        CertificateError::NoKey | CertificateError::BadKey => {
            ConfigError { setting: TLS_KEY, problem: format!("{}: {error}", key_path.display()) }
        }
        CertificateError::Mismatch => ConfigError {
            setting: TLS_KEY,
            problem: format!("{} does not fit {}: {error}", key_path.display(), path.display()),
        },
    })
}

fn read(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    let shown = path.display();
    let problem = match read_bounded(path) {
        Ok(bytes) if bytes.len() as u64 <= FILE_BYTES_MAX => return Ok(bytes),
        Ok(_) => format!(
            "{shown} has more than a megabyte: give a file in PEM with one certificate and its chain, or a key"
        ),
        Err(error) => {
            format!(
                "{shown} cannot be read: {error}: give a file in PEM, and let the user of the hub read it"
            )
        }
    };
    Err(ConfigError { setting, problem })
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    /// Writes a certificate and its key, and returns their paths.
    fn write(directory: &Path, name: &str) -> [PathBuf; 2] {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let paths = ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
        for (path, text) in paths.iter().zip([cert.pem(), signing_key.serialize_pem()]) {
            fs::write(path, text).expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
        }
        paths
    }

    fn options(certificates: &[&PathBuf], keys: &[&PathBuf]) -> TlsOptions {
        let owned = |paths: &[&PathBuf]| paths.iter().map(|&path| path.clone()).collect();
        TlsOptions { certificates: owned(certificates), keys: owned(keys), ..TlsOptions::default() }
    }

    #[test]
    fn a_problem_names_the_setting_the_file_and_the_remedy() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        let ([a, a_key], [b, b_key]) = (write(directory, "a.example"), write(directory, "b.example"));
        let text = |name: &str, text: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let (empty, large) = (text("empty", b""), text("large", &vec![b'a'; FILE_BYTES_MAX as usize + 1]));
        let damaged = text("damaged", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let missing = directory.join("missing");
        let many = vec![&a; CERTIFICATES_MAX + 1];
        for (certificates, keys, setting, parts) in [
            (&[&a][..], &[][..], TLS_CERT, &["tls_key is not given", "leave out tls_cert"][..]),
            (&[], &[&a_key], TLS_KEY, &["tls_cert is not given", "leave out tls_key"]),
            (&[&a, &b], &[&a_key], TLS_KEY, &["names 2 and tls_key 1", "in the same order"]),
            (&many, &[&a_key], TLS_CERT, &["33 certificates", "32 at most"]),
            (
                &[&missing],
                &[&a_key],
                TLS_CERT,
                &["/missing cannot be read", "let the user of the hub read it"],
            ),
            (&[&a], &[&missing], TLS_KEY, &["/missing cannot be read", "give a file in PEM"]),
            (&[&large], &[&a_key], TLS_CERT, &["/large has more than a megabyte"]),
            (&[&empty], &[&a_key], TLS_CERT, &["/empty: there is no certificate in it"]),
            (&[&damaged], &[&a_key], TLS_CERT, &["/damaged: the certificate cannot be read"]),
            (&[&a], &[&a], TLS_KEY, &["/a.example.crt: there is no private key in it"]),
            (&[&a], &[&b_key], TLS_KEY, &["/b.example.key does not fit /", "/a.example.crt", "give the key"]),
            (&[&a, &b], &[&b_key, &a_key], TLS_KEY, &["does not fit"]),
        ] {
            let problem = options(certificates, keys).read().err().expect("a problem");
            assert_eq!(problem.setting, setting, "{problem}");
            for part in parts {
                assert!(problem.problem.contains(part), "{part}: {problem}");
            }
        }
        let found = options(&[&a, &b], &[&a_key, &b_key]).read().expect("two");
        assert!(found[0].certificate.is_for("a.example") && found[1].certificate.is_for("b.example"));
        assert!(options(&[], &[]).read().expect("none").is_empty());
    }

    #[test]
    fn authorities_for_clients_need_tls_and_each_file_needs_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let [a, a_key] = write(directory.path(), "a.example");
        let [b, _] = write(directory.path(), "b.example");
        let with = |tls: bool, authorities: &[&PathBuf], client_publish| {
            let own = if tls { options(&[&a], &[&a_key]) } else { TlsOptions::default() };
            let client_authorities = authorities.iter().map(|&path| path.clone()).collect();
            TlsOptions { client_authorities, client_publish, ..own }
        };
        let enough = Some(PublisherCertificate::Enough);
        for (options, setting, part) in [
            (with(false, &[&a], None), TLS_CLIENT_CA, "give tls_cert and tls_key"),
            (with(true, &[], enough), TLS_CLIENT_PUBLISH, "give tls_client_ca"),
            (with(true, &[&a, &a_key], None), TLS_CLIENT_CA, "/a.example.key: there is no certificate in it"),
            (with(true, &vec![&a; CERTIFICATES_MAX + 1], None), TLS_CLIENT_CA, "33 files: give 32 at most"),
        ] {
            let problem = options.read_client_authorities(options.is_given()).expect_err("a problem");
            assert_eq!(problem.setting, setting, "{problem}");
            assert!(problem.problem.contains(part), "{part}: {problem}");
        }
        for (options, meaning) in [
            (with(true, &[], None), PublisherCertificate::Ignored),
            (with(true, &[&a, &b], None), PublisherCertificate::Needed),
            (with(true, &[&b], enough), PublisherCertificate::Enough),
        ] {
            assert_eq!(options.publisher_certificate(), meaning);
            let found = options.read_client_authorities(options.is_given()).expect("no problem");
            assert_eq!(found.is_some(), meaning != PublisherCertificate::Ignored);
        }
    }

    #[test]
    fn a_certificate_and_its_key_may_be_in_one_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let [certificate, key] =
            write(directory.path(), "a.example").map(|path| fs::read(path).expect("a file"));
        for parts in [[&certificate, &key], [&key, &certificate]] {
            let path = directory.path().join("both");
            fs::write(&path, parts.map(|part| part.as_slice()).concat()).expect("written");
            assert_eq!(options(&[&path], &[&path]).read().expect("one").len(), 1);
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let [path, key] = write(directory.path(), "hub.example");
        let options = options(&[&path], &[&key]);
        let found = options.read().expect("one");
        let warnings = |url: Option<&str>| {
            let url = url.map(|url| HubUrl::parse(url).expect("a URL"));
            let warnings = options.warnings(&found, url.as_ref(), SystemTime::now());
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(warnings(None), "");
        assert_eq!(warnings(Some("https://hub.example/.well-known/mercure")), "");
        let text = warnings(Some("http://hub.example/.well-known/mercure"));
        assert_eq!(text, "public_url: it begins with http, and the hub speaks TLS: write https");
        let text = warnings(Some("https://[::1]/.well-known/mercure"));
        assert!(text.starts_with("tls_cert: no certificate is for ::1, the host of public_url"), "{text}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let text = warnings(None);
        assert!(text.starts_with("tls_key: every user of this machine may read /"), "{text}");
        assert_eq!(text.lines().count(), 1, "everybody may read a certificate: {text}");
        let late = found[0].certificate.expires().expect("a date") + std::time::Duration::from_secs(1);
        let text = options.warnings(&found, None, late).iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("/hub.example.crt has expired on 4096-01-01, so"), "{text}");
        assert!(TlsOptions::default().warnings(&[], None, SystemTime::now()).is_empty());
    }
}
