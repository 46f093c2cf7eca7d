//! A certificate that a client has shown, and whether it still counts.
//!
//! The handshake has verified it. A connection may outlive the certificate, or the hub's trust in its authority, and a client
//! that resumes a session shows nothing again. So each use verifies the certificate anew.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{authorities::ClientAuthorities, offer::Tls};

/// A certificate that a client has shown, with its chain.
pub(crate) struct ShownCertificate {
    chain: Vec<CertificateDer<'static>>,
    tls: Tls,
    last: Mutex<Option<Verified>>,
}

/// That it counted in one second, and for which authorities. Verifying takes a tenth of a millisecond, and a publisher may send
/// thousands of updates in a second.
struct Verified {
    second: u64,
    by: ClientAuthorities,
}

impl ShownCertificate {
    /// `chain` begins with the certificate of the client. `tls` has its authorities.
    pub(super) fn new(chain: &[CertificateDer<'_>], tls: &Tls) -> Self {
        let chain = chain.iter().map(|each| each.clone().into_owned()).collect();
        Self { chain, tls: tls.clone(), last: Mutex::default() }
    }

    /// Whether it counts at that time, for the authorities in force now.
    pub(crate) fn is_valid_at(&self, time: UnixTime) -> bool {
        let (Some(by), [own, chain @ ..]) = (self.tls.client_authorities(), &*self.chain) else {
            return false;
        };
        let second = time.as_secs();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.as_ref().is_some_and(|last| last.second == second && last.by.are_same(&by)) {
            let verified = by.verifier().verify_client_cert(own, chain, time);
            *last = verified.is_ok().then_some(Verified { second, by });
        }
        last.is_some()
    }
}

/// Says nothing of the client.
impl fmt::Debug for ShownCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownCertificate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        date_time_ymd,
    };

    use super::*;

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
        }

        fn trusted(&self) -> ClientAuthorities {
            ClientAuthorities::parse(self.0.pem().as_bytes()).expect("an authority")
        }

        /// A certificate that expires with the year 2029.
        fn sign(&self) -> CertificateDer<'static> {
            let mut params = CertificateParams::new(vec!["client".to_owned()]).expect("parameters");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_after = date_time_ymd(2030, 1, 1);
            let key = KeyPair::generate().expect("a key");
            params.signed_by(&key, &self.0).expect("signed").der().clone()
        }
    }

    /// The last second of 2029.
    const LAST: u64 = 1_893_455_999;

    fn at(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(second))
    }

    #[test]
    fn it_counts_until_it_expires_and_while_its_authority_is_in_force() {
        let (authority, other) = (Authority::new(), Authority::new());
        let tls = Tls::waiting(Vec::new()).expect("an offer");
        let shown = ShownCertificate::new(&[authority.sign()], &tls);
        assert!(!shown.is_valid_at(at(LAST)), "nobody asks for one");
        tls.set_client_authorities(Some(&authority.trusted())).expect("authorities");
        assert!(shown.is_valid_at(at(LAST)) && shown.is_valid_at(at(LAST)));
        tls.set_client_authorities(Some(&other.trusted())).expect("authorities");
        assert!(!shown.is_valid_at(at(LAST)), "in the same second");
        tls.set_client_authorities(Some(&authority.trusted())).expect("authorities");
        assert!(shown.is_valid_at(at(LAST)));
        assert!(!shown.is_valid_at(at(LAST + 2)), "it has expired");
        tls.set_client_authorities(None).expect("none");
        assert!(!shown.is_valid_at(at(LAST)));
    }

    #[test]
    fn it_says_nothing_of_the_client() {
        let tls = Tls::waiting(Vec::new()).expect("an offer");
        let shown = ShownCertificate::new(&[Authority::new().sign()], &tls);
        assert_eq!(format!("{shown:?}"), "ShownCertificate { .. }");
    }
}
