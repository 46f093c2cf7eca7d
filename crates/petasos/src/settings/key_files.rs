//! The files with keys and certificates that settings name, and whether one of them has changed.
//!
//! The content is compared, not times or inodes: an orchestrator that swaps symbolic links changes neither, and a copy with
//! the same content changes nothing.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use petasos::{IssuerConfig, KeyConfig, Secret};
use zeroize::Zeroizing;

use crate::certificates::{TLS_CERT, TLS_CLIENT_CA, TLS_KEY, TlsOptions};

use super::issuers::without_line_break;

/// A file with a key, a JWK Set or a certificate, and what was in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyFile {
    /// The setting that names it.
    pub(crate) setting: &'static str,
    path: PathBuf,
    /// `None`: it cannot be read.
    content: Option<Secret>,
}

/// Far more than a set of a hundred keys. What follows is not compared.
const BYTES_MAX: u64 = 1024 * 1024;

impl KeyFile {
    /// The files that the issuers and the settings of TLS name. The key of a key file is the one that has been read; a JWK Set, a
    /// certificate and its key are read here, and so before the hub reads them.
    pub(crate) fn find(first: &IssuerConfig, others: &[IssuerConfig], tls: &TlsOptions) -> Vec<Self> {
        let of_tls =
            [(TLS_CERT, &tls.certificates), (TLS_KEY, &tls.keys), (TLS_CLIENT_CA, &tls.client_authorities)];
        let of_tls = of_tls
            .into_iter()
            .flat_map(|(setting, paths)| paths.iter().map(move |path| Self::read(setting, path)));
        let of_first = [
            (&first.publisher, "publisher_key_file", "publisher_jwks"),
            (&first.subscriber, "subscriber_key_file", "subscriber_jwks"),
        ];
        let of_others = others.iter().flat_map(|issuer| [&issuer.publisher, &issuer.subscriber]);
        let all = of_first.into_iter().chain(of_others.map(|keys| (keys, "issuers", "issuers")));
        all.flat_map(|(keys, key_file, jwks)| {
            let KeyConfig { key_file: path, key, .. } = keys;
            let key_file = path.clone().map(|path| Self { setting: key_file, path, content: key.clone() });
            let jwks = keys.jwks.as_ref().map(|path| Self::read(jwks, path));
            key_file.into_iter().chain(jwks)
        })
        .chain(of_tls)
        .collect()
    }

    fn read(setting: &'static str, path: &Path) -> Self {
        Self { setting, path: path.to_owned(), content: read(path).ok() }
    }

    /// The same file as it is now. What is no file, such as a pipe, counts as unchanged: it may be read only once.
    pub(crate) fn look(&self) -> Self {
        if is_special(&self.path) {
            return self.clone();
        }
        Self { content: read(&self.path).ok(), ..self.clone() }
    }
}

/// Whether a pipe, a socket or a device is there. Opening a pipe waits for its writer.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn read(path: &Path) -> io::Result<Secret> {
    if is_special(path) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Secret::new(without_line_break(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_if_its_content_has() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let write = |text: &str| fs::write(&path, text).expect("written");
        write("secret");
        let keys = KeyConfig {
            key: Some(Secret::new("secret")),
            key_file: Some(path.clone()),
            ..KeyConfig::default()
        };
        let issuer = IssuerConfig { publisher: keys, ..IssuerConfig::default() };
        let [file] = &KeyFile::find(&issuer, &[], &TlsOptions::default())[..] else { panic!("one file") };
        assert!(file.look() == *file && file.setting == "publisher_key_file");
        write("secret\n");
        assert!(file.look() == *file, "the line break does not count");
        write("another");
        let changed = file.look();
        assert!(changed != *file && changed.look() == changed);
        fs::remove_file(&path).expect("removed");
        assert!(changed.look() != changed);
    }

    #[test]
    fn a_pipe_is_not_waited_for_and_has_not_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        let [key, jwks] = [(Some(Secret::new("secret")), None), (None, Some(path.clone()))];
        for (key, jwks) in [key, jwks] {
            let key_file = key.as_ref().map(|_| path.clone());
            let publisher = KeyConfig { key, key_file, jwks, ..KeyConfig::default() };
            let issuer = IssuerConfig { publisher, ..IssuerConfig::default() };
            let [file] = &KeyFile::find(&issuer, &[], &TlsOptions::default())[..] else { panic!("one file") };
            assert!(file.look() == *file);
        }
    }

    #[test]
    fn every_file_is_found_with_its_setting() {
        let keys = |jwks: &str| KeyConfig { jwks: Some(jwks.into()), ..KeyConfig::default() };
        let issuer =
            IssuerConfig { publisher: keys("/a"), subscriber: keys("/b"), ..IssuerConfig::default() };
        let tls = TlsOptions {
            certificates: vec!["/c".into(), "/d".into()],
            keys: vec!["/e".into(), "/f".into()],
            client_authorities: vec!["/g".into()],
            client_publish: None,
        };
        let found = KeyFile::find(&issuer, std::slice::from_ref(&issuer), &tls);
        let settings: Vec<_> = found.iter().map(|file| file.setting).collect();
        let of_issuers = ["publisher_jwks", "subscriber_jwks", "issuers", "issuers"];
        let of_tls = [TLS_CERT, TLS_CERT, TLS_KEY, TLS_KEY, TLS_CLIENT_CA];
        assert_eq!(settings, [&of_issuers[..], &of_tls].concat());
    }
}
