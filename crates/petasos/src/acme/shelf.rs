//! What the nodes of a hub share about its certificate: the account at the authority, the certificate with its key, and the course of
//! orders. Each is a document, which is replaced only if nobody else has replaced it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use petasos_hub::{
    TransportError,
    documents::{Document, Documents, Version},
};
use petasos_server::{Certificate, CertificateError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::options::AcmeOptions;

/// The documents of one hub.
#[derive(Clone)]
pub(crate) struct Shelf {
    documents: Arc<dyn Documents>,
    account: String,
    certificate: String,
    course: String,
}

/// Longer than every pause between orders.
const PAUSE_MAX: Duration = Duration::from_secs(8 * 24 * 3600);

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    #[error("what is kept cannot be read or written: {0}")]
    Store(#[from] TransportError),
    #[error("the document \"{0}\" is damaged: remove it from the store")]
    Damaged(String),
    #[error("the certificate that is kept cannot be used: {0}")]
    Certificate(#[from] CertificateError),
}

/// A certificate with its key, as the authority has given it. It has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Issued {
    /// In PEM.
    pub(crate) chain: String,
    /// In PEM.
    pub(crate) key: Zeroizing<String>,
}

/// An account at the authority. It has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAccount {
    #[serde(flatten)]
    pub(super) credentials: AccountCredentials,
    /// The address that the authority was given. `None`: none, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
}

/// A certificate that is kept.
pub(crate) struct Kept {
    pub(crate) certificate: Certificate,
    pub(crate) version: Version,
}

/// How orders have gone, and who orders now.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Course {
    /// The node that orders, until some time.
    pub(crate) lease: Option<Lease>,
    /// Orders that have failed since the last one that succeeded.
    pub(crate) failures: u32,
    /// Nobody orders before this time, in milliseconds since 1970.
    pub(crate) not_before: u64,
    /// Why the last order failed.
    pub(crate) problem: Option<String>,
    /// The challenges that the authority may ask about.
    pub(crate) challenges: Vec<Challenge>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// A random text.
    pub(crate) node: String,
    /// In milliseconds since 1970.
    pub(crate) ends: u64,
}

/// A challenge for a name. The authorization is no secret: the authority gets it from everybody who is asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) domain: String,
    pub(crate) token: String,
    pub(crate) authorization: String,
}

impl Shelf {
    /// The documents for the names and the authority of the settings.
    pub(crate) fn new(documents: Arc<dyn Documents>, options: &AcmeOptions) -> Self {
        let mut names = options.domains.clone();
        names.sort_unstable();
        let account = key(&[&options.directory, options.eab_key_id.as_deref().unwrap_or_default()]);
        let hub = key(&[&options.directory, &names.join(" ")]);
        Self {
            documents,
            account: format!("acme-account-{account}"),
            certificate: format!("acme-certificate-{hub}"),
            course: format!("acme-order-{hub}"),
        }
    }

    /// The account at the authority, and its version.
    pub(super) async fn account(&self) -> Result<Option<(KeptAccount, Version)>, ShelfError> {
        let Some(document) = self.documents.load(&self.account).await? else { return Ok(None) };
        Ok(Some((parse(&self.account, &document)?, document.version)))
    }

    /// Keeps an account. Nothing happens if another node has kept one meanwhile.
    pub(super) async fn keep_account(
        &self,
        account: &KeptAccount,
        expected: Option<Version>,
    ) -> Result<(), ShelfError> {
        self.store(&self.account, account, expected).await.map(drop)
    }

    /// The certificate, if there is one that can be used.
    pub(crate) async fn certificate(&self) -> Result<Option<Kept>, ShelfError> {
        let Some(document) = self.documents.load(&self.certificate).await? else { return Ok(None) };
        let certificate = self.parse_certificate(&document)?;
        Ok(Some(Kept { certificate, version: document.version }))
    }

    /// Keeps a certificate in the place of every other, and answers its version. `None`: one is kept that expires later, so another
    /// node has ordered since.
    pub(super) async fn keep_certificate(
        &self,
        issued: &Issued,
        expires: Option<SystemTime>,
    ) -> Result<Option<Version>, ShelfError> {
        loop {
            let found = self.documents.load(&self.certificate).await?;
            let expected = found.as_ref().map(|document| document.version);
            let kept = found.and_then(|document| self.parse_certificate(&document).ok());
            if kept.is_some_and(|kept| expires.is_some() && kept.expires() > expires) {
                return Ok(None);
            }
            if let Some(version) = self.store(&self.certificate, issued, expected).await? {
                return Ok(Some(version));
            }
        }
    }

    fn parse_certificate(&self, document: &Document) -> Result<Certificate, ShelfError> {
        let Issued { chain, key } = parse(&self.certificate, document)?;
        Ok(Certificate::parse(chain.as_bytes(), key.as_bytes())?)
    }

    /// The course of orders, and its version.
    pub(crate) async fn course(&self) -> Result<(Course, Option<Version>), ShelfError> {
        match self.documents.load(&self.course).await? {
            // It says when to try again, and no more: one that cannot be read counts as none.
            Some(document) => {
                let course = parse(&self.course, &document).unwrap_or_default();
                Ok((course, Some(document.version)))
            }
            None => Ok((Course::default(), None)),
        }
    }

    /// Replaces the course. `None`: somebody else has replaced it.
    pub(super) async fn set_course(
        &self,
        course: &Course,
        expected: Option<Version>,
    ) -> Result<Option<Version>, ShelfError> {
        self.store(&self.course, course, expected).await
    }

    async fn store(
        &self,
        name: &str,
        value: &impl Serialize,
        expected: Option<Version>,
    ) -> Result<Option<Version>, ShelfError> {
        let text = serde_json::to_vec(value).map_err(|_| ShelfError::Damaged(name.to_owned()))?;
        Ok(self.documents.store(name, &Zeroizing::new(text), expected).await?)
    }
}

impl Course {
    /// Whether another node orders now. A lease that ends later than any does is one of a node with another time of day, and counts
    /// for none.
    pub(super) fn is_taken(&self, node: &str, now: SystemTime, longest: Duration) -> bool {
        let Some(lease) = &self.lease else { return false };
        lease.node != node && lease.ends > millis(now) && lease.ends <= millis(now + 2 * longest)
    }

    /// When somebody may order. A time that is later than any pause lasts counts for none.
    pub(super) fn next_attempt(&self, now: SystemTime) -> SystemTime {
        match self.not_before <= millis(now + PAUSE_MAX) {
            true => SystemTime::UNIX_EPOCH + Duration::from_millis(self.not_before),
            false => now,
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn parse<T: DeserializeOwned>(name: &str, document: &Document) -> Result<T, ShelfError> {
    serde_json::from_slice(&document.bytes).map_err(|_| ShelfError::Damaged(name.to_owned()))
}

/// A short name for some texts.
fn key(parts: &[&str]) -> String {
    let hash = digest(&SHA256, parts.join("\n").as_bytes());
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_another_clock_stops_nobody_for_long() {
        let (now, lease) = (SystemTime::UNIX_EPOCH + 10 * PAUSE_MAX, Duration::from_secs(100));
        let taken = |ends: SystemTime| {
            let lease = Lease { node: "other".to_owned(), ends: millis(ends) };
            Course { lease: Some(lease), ..Course::default() }
        };
        assert!(
            taken(now + lease).is_taken("own", now, lease)
                && !taken(now + lease).is_taken("other", now, lease)
        );
        assert!(
            !taken(now).is_taken("own", now, lease) && !taken(now + PAUSE_MAX).is_taken("own", now, lease)
        );
        let paused =
            |until: SystemTime| Course { not_before: millis(until), ..Course::default() }.next_attempt(now);
        assert_eq!(paused(now + lease), now + lease);
        assert_eq!(paused(now + 2 * PAUSE_MAX), now);
    }
}
