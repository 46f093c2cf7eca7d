//! A certificate for this machine (`--tls-dev`), signed by a certification authority of its user alone.
//!
//! The authority lasts, so that browsers are told once to trust it. It can sign for this machine only (RFC 5280, section 4.2.1.10), so
//! its key is of no use elsewhere. The certificate is made anew at each start.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use petasos_server::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use zeroize::Zeroizing;

use crate::acme::state_directory;

/// The certificate of this machine, and where the one of its authority is.
pub(crate) struct Development {
    pub(crate) certificate: Certificate,
    pub(crate) authority: PathBuf,
}

/// The setting.
pub(crate) const TLS_DEV: &str = "tls_dev";

/// What the certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Ten years for the authority; for the certificate longer than a hub runs that somebody develops with.
const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_DAYS: u32 = 3650;
const CERTIFICATE_DAYS: u32 = 90;

/// The files of the authority.
const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";

impl Development {
    /// Makes a certificate, and the authority if there is none yet.
    ///
    /// # Errors
    /// In words, with what to do.
    pub(crate) fn new() -> Result<Self, String> {
        let Some(state) = state_directory(|name| env::var(name).ok()) else {
            return Err(format!(
                "{TLS_DEV}: this user has no directory for the authority: set HOME, or XDG_STATE_HOME"
            ));
        };
        let directory = state.join("tls-dev");
        Self::in_directory(&directory).map_err(|error| {
            format!(
                "{TLS_DEV}: the authority in {} cannot be used: {error}: let this user write there, or remove the directory",
                directory.display()
            )
        })
    }

    fn in_directory(directory: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let now = SystemTime::now();
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Hubs that start together make one authority.
        let lock = File::open(directory)?;
        lock.lock()?;
        let (path, key_path) = (directory.join(CERTIFICATE), directory.join(KEY));
        let params = match path.exists() && key_path.exists() {
            true => authority_params(now),
            false => make_authority(directory, now)?,
        };
        let key = KeyPair::from_pem(&Zeroizing::new(fs::read_to_string(&key_path)?))?;
        drop(lock);
        let issuer = Issuer::new(params, key);
        let mut own = CertificateParams::new(NAMES.map(str::to_owned))?;
        own.distinguished_name = DistinguishedName::new();
        own.not_before = now.into();
        own.not_after = (now + DAY * CERTIFICATE_DAYS).into();
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.use_authority_key_identifier_extension = true;
        let own_key = KeyPair::generate()?;
        let signed = own.signed_by(&own_key, &issuer)?;
        let own_key = Zeroizing::new(own_key.serialize_pem());
        let certificate = Certificate::parse(signed.pem().as_bytes(), own_key.as_bytes())?;
        Ok(Self { certificate, authority: path })
    }

    /// What somebody needs to know who tries it.
    pub(crate) fn lines(&self, url: &str) -> Vec<String> {
        let path = self.authority.display();
        vec![
            format!("For development only: the certificate is signed by {path}, which only you trust"),
            format!("curl --cacert {path} {url}"),
            "Chromium and Firefox trust it once you have imported that file as an authority for web sites"
                .to_owned(),
        ]
    }
}

fn make_authority(
    directory: &Path,
    now: SystemTime,
) -> Result<CertificateParams, Box<dyn std::error::Error + Send + Sync>> {
    let params = authority_params(now);
    let key = KeyPair::generate()?;
    let own = params.self_signed(&key)?;
    write(&directory.join(KEY), 0o600, &Zeroizing::new(key.serialize_pem()))?;
    write(&directory.join(CERTIFICATE), 0o644, &own.pem())?;
    Ok(params)
}

fn authority_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "petasos development on this machine");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let addresses =
        [CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8), CidrSubnet::from_v6_prefix(LOOPBACK_6, 128)];
    let addresses = addresses.map(GeneralSubtree::IpAddress);
    let names = [GeneralSubtree::DnsName("localhost".to_owned())];
    let permitted_subtrees = names.into_iter().chain(addresses).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    params.not_before = now.into();
    params.not_after = (now + DAY * AUTHORITY_DAYS).into();
    params
}

/// `::1`.
const LOOPBACK_6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Puts a whole file there. What a process has left that ended in the middle may have another mode.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, os::unix::fs::PermissionsExt, sync::Barrier, thread};

    use rcgen::PublicKeyData;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn the_authority_stays_and_its_key_is_for_its_user_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().join("state/tls-dev");
        fs::create_dir_all(&directory).expect("made");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("set");
        fs::write(directory.join("authority.new"), "left").expect("written");
        let first = Development::in_directory(&directory).expect("made");
        for name in NAMES {
            assert!(first.certificate.is_for(name), "{name}");
        }
        let authority = fs::read(&first.authority).expect("it is there");
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(KEY))), (0o700, 0o600));
        let again = Development::in_directory(&directory).expect("made");
        assert_eq!(fs::read(&again.authority).expect("it is there"), authority);
        assert!(again.lines("https://localhost:1/")[1].starts_with("curl --cacert /"));
        fs::write(directory.join(KEY), "damaged").expect("written");
        assert!(Development::in_directory(&directory).is_err());
    }

    #[test]
    fn hubs_that_start_together_have_one_authority() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = &directory.path().join("tls-dev");
        let (hubs, start) = (8, Barrier::new(8));
        let made = thread::scope(|scope| {
            let hub = || {
                start.wait();
                Development::in_directory(directory).expect("made")
            };
            let hubs: Vec<_> = (0..hubs).map(|_| scope.spawn(hub)).collect();
            hubs.into_iter().map(|hub| hub.join().expect("no panic")).collect::<Vec<_>>()
        });
        let signers: HashSet<_> =
            made.iter().map(|hub| hub.certificate.issued_as().expect("an authority").0).collect();
        assert_eq!(signers.len(), 1);
        let authority = CertificateDer::from_pem_file(&made[0].authority).expect("a certificate");
        let key = fs::read_to_string(directory.join(KEY)).expect("it is there");
        let key = KeyPair::from_pem(&key).expect("a key").subject_public_key_info();
        assert!(authority.windows(key.len()).any(|part| part == key), "the two files belong together");
    }
}
