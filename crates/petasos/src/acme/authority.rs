//! What the hub asks of a certification authority: an account, a certificate, and when to renew it.

use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use petasos_server::Certificate;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::Der;
use zeroize::Zeroizing;

use super::{
    client::Client,
    options::{ACME_EMAIL, AcmeOptions, Proof},
    schedule::Window,
    shelf::{Challenge, Issued, KeptAccount, Shelf, ShelfError},
};

/// The authority of the settings.
pub(super) struct Authority {
    options: AcmeOptions,
    client: Client,
    shelf: Shelf,
    account: Option<Account>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refused {
    /// What the authority or the system says, and what to change where that is known. No secret.
    text: String,
    /// When the authority wants to be asked again.
    pub(super) again_at: Option<SystemTime>,
    /// The authority has refused nonces, which it may do at any time. Another order may go well.
    pub(super) is_passing: bool,
}

/// An order whose challenges can be answered.
pub(super) struct Begun {
    order: Order,
    pub(super) challenges: Vec<Challenge>,
}

/// How often the authority is asked how far it is. It looks at the names meanwhile, from several places.
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(60));

/// Characters of what an authority says that are shown: it may say a megabyte, and what is kept has its bound.
const WORDS_MAX: usize = 1_000;

/// Problems of the authority (RFC 8555, section 6.7).
const NO_ACCOUNT: &str = "accountDoesNotExist";
const BAD_NONCE: &str = "badNonce";
const NEEDS_EXTERNAL: &str = "externalAccountRequired";

impl Authority {
    /// # Errors
    /// In words, if no authority could be asked.
    pub(super) fn new(options: AcmeOptions, shelf: Shelf) -> Result<Self, String> {
        let roots = options.roots().map_err(|error| error.to_string())?;
        Ok(Self { client: Client::new(roots)?, options, shelf, account: None })
    }

    /// Begins an order. `replaced`: the certificate that is renewed.
    pub(super) async fn begin(&mut self, replaced: Option<&Certificate>) -> Result<Begun, Refused> {
        // A time that was asked for before says nothing of this order.
        self.client.take_asked_for();
        match self.try_begin(replaced).await {
            // The authority has forgotten the account.
            Err(Failure::Acme(Error::Api(problem))) if is(&problem, NO_ACCOUNT) => {
                self.account = None;
                self.make_account(true).await.map_err(|failure| self.refused(&failure))?;
                self.try_begin(replaced).await.map_err(|failure| self.refused(&failure))
            }
            begun => begun.map_err(|failure| self.refused(&failure)),
        }
    }

    /// Has the authority look at the challenges, which are answered from now on, and gets the certificate.
    pub(super) async fn finish(&self, begun: Begun) -> Result<Issued, Refused> {
        self.try_finish(begun).await.map_err(|failure| self.refused(&failure))
    }

    /// When the authority advises to renew a certificate, and how long this advice counts. `None`: it gives none.
    pub(super) async fn advice(&mut self, certificate: &Certificate) -> Option<(Window, Duration)> {
        let id = identifier(certificate)?;
        let advised = async {
            let account = self.account().await?;
            Ok::<_, Failure>(account.renewal_info(&id).await?)
        };
        match advised.await {
            Ok((info, counts)) => {
                let window = info.suggested_window;
                Some((Window { start: window.start.into(), end: window.end.into() }, counts))
            }
            Err(failure) => {
                tracing::debug!(error = %self.refused(&failure), "the authority gives no advice when to renew");
                None
            }
        }
    }

    async fn try_begin(&mut self, replaced: Option<&Certificate>) -> Result<Begun, Failure> {
        let proof = self.options.proof;
        let names: Vec<_> = self.options.domains.iter().cloned().map(Identifier::Dns).collect();
        let account = self.account().await?;
        let plain = NewOrder::new(&names);
        let mut order = match replaced.and_then(identifier) {
            // An authority may refuse to replace a certificate, as one that was replaced already.
            Some(id) => match account.new_order(&NewOrder::new(&names).replaces(id)).await {
                Err(Error::Api(problem)) if is(&problem, NO_ACCOUNT) || is(&problem, "rateLimited") => {
                    return Err(Error::Api(problem).into());
                }
                Err(_) => account.new_order(&plain).await?,
                Ok(order) => order,
            },
            None => account.new_order(&plain).await?,
        };
        let mut challenges = Vec::new();
        let mut all = order.authorizations();
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization?;
            let Identifier::Dns(domain) = authorization.identifier().identifier.clone() else { continue };
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => {
                    let domain = words(domain);
                    return Err(Failure::Said(format!("{domain}: its authorization is {status:?}")));
                }
            }
            let Some(challenge) = authorization.challenge(kind(proof)) else {
                return Err(Failure::Said(format!(
                    "{}: the authority offers no {}: choose another acme_challenge",
                    words(domain),
                    proof.name()
                )));
            };
            challenges.push(Challenge {
                domain,
                token: challenge.token.clone(),
                authorization: challenge.key_authorization().as_str().to_owned(),
            });
        }
        Ok(Begun { order, challenges })
    }

    async fn try_finish(&self, Begun { mut order, .. }: Begun) -> Result<Issued, Failure> {
        let proof = self.options.proof;
        let mut all = order.authorizations();
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(kind(proof))
            {
                challenge.set_ready().await?;
            }
        }
        let status = order.poll_ready(&POLLS).await;
        if !matches!(status, Ok(OrderStatus::Ready)) {
            return Err(match self.problem_of(&mut order).await {
                Some(said) => Failure::Said(said),
                None => {
                    status.err().map_or_else(|| Failure::Said("the order is invalid".to_owned()), Into::into)
                }
            });
        }
        let mut params = CertificateParams::new(self.options.domains.clone())?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        order.finalize_csr(params.serialize_request(&key)?.der()).await?;
        let chain = order.poll_certificate(&POLLS).await?;
        let issued = Issued { chain, key: Zeroizing::new(key.serialize_pem()) };
        self.check(&issued)?;
        Ok(issued)
    }

    /// A certificate that cannot be used must not replace one that can.
    fn check(&self, issued: &Issued) -> Result<(), Failure> {
        let unusable = |why: String| {
            Failure::Said(format!("the authority has given a certificate that cannot be used: {why}"))
        };
        let certificate = Certificate::parse(issued.chain.as_bytes(), issued.key.as_bytes())
            .map_err(|error| unusable(error.to_string()))?;
        match self.options.domains.iter().find(|domain| !certificate.is_for(domain)) {
            Some(domain) => Err(unusable(format!("it is not for {domain}"))),
            None => Ok(()),
        }
    }

    /// What the authority has found wrong with a name.
    async fn problem_of(&self, order: &mut Order) -> Option<String> {
        let mut all = order.authorizations();
        while let Some(Ok(mut authorization)) = all.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) else {
                continue;
            };
            let (problem, domain) = (words(problem), words(state.identifier()));
            let port = match self.options.proof {
                Proof::Tls => "port 443",
                Proof::Http => "port 80",
            };
            return Some(format!(
                "{domain}: {problem}: let {domain} lead to this hub in DNS, and {port} there reach it"
            ));
        }
        None
    }

    async fn account(&mut self) -> Result<Account, Failure> {
        match &self.account {
            Some(account) => Ok(account.clone()),
            None => self.make_account(false).await,
        }
    }

    /// The account that is kept, or a new one. `is_forgotten`: the authority does not know the one that is kept.
    async fn make_account(&mut self, is_forgotten: bool) -> Result<Account, Failure> {
        let kept = self.shelf.account().await?;
        let version = kept.as_ref().map(|(_, version)| *version);
        let account = match kept {
            Some((kept, _)) if !is_forgotten => self.take_account(kept).await?,
            _ => {
                let contact = self.contact();
                let contact: Vec<_> = contact.iter().map(String::as_str).collect();
                let wanted = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let external =
                    self.options.external_key().map_err(|error| Failure::Said(error.to_string()))?;
                let external = external.map(|(id, key)| ExternalAccountKey::new(id.to_owned(), &key));
                let directory = self.options.directory.clone();
                let (account, credentials) =
                    self.builder().create(&wanted, directory, external.as_ref()).await?;
                let kept = KeptAccount { credentials, email: self.options.email.clone() };
                self.shelf.keep_account(&kept, version).await?;
                tracing::info!(directory = self.options.directory, "an account was made at the authority");
                account
            }
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    /// The account that is kept. The authority gets another address if the settings have one.
    async fn take_account(&self, kept: KeptAccount) -> Result<Account, Failure> {
        let account = self.builder().from_credentials(kept.credentials).await?;
        if kept.email == self.options.email {
            return Ok(account);
        }
        let contact = self.contact();
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        match account.update_contacts(&contact).await {
            Ok(()) => {
                tracing::info!(setting = ACME_EMAIL, "the authority has the address of the settings");
                if let Some((kept, version)) = self.shelf.account().await? {
                    let kept = KeptAccount { email: self.options.email.clone(), ..kept };
                    self.shelf.keep_account(&kept, Some(version)).await?;
                }
            }
            Err(Error::Api(problem)) if is(&problem, NO_ACCOUNT) => return Err(Error::Api(problem).into()),
            // A wrong address is no reason to have no certificate.
            Err(error) => {
                let problem = self.refused(&error.into());
                tracing::warn!(setting = ACME_EMAIL, %problem, "the authority does not take the address of the settings");
            }
        }
        Ok(account)
    }

    /// The addresses of the settings, as authorities read them.
    fn contact(&self) -> Vec<String> {
        self.options.email.iter().map(|email| format!("mailto:{email}")).collect()
    }

    fn builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.client.clone()))
    }

    fn refused(&self, failure: &Failure) -> Refused {
        let again_at = self.client.take_asked_for();
        let text = match failure {
            Failure::Acme(Error::Api(problem)) if is(problem, NEEDS_EXTERNAL) => format!(
                "{}: this authority takes accounts that you have there: give acme_eab_key_id and acme_eab_key",
                words(problem)
            ),
            Failure::Acme(Error::Json(_)) => format!(
                "{} does not answer as an authority does: correct acme_directory",
                self.options.directory
            ),
            Failure::Said(text) => text.clone(),
            failure => words(failure),
        };
        let is_passing = matches!(failure, Failure::Acme(Error::Api(problem)) if is(problem, BAD_NONCE));
        Refused { text, again_at, is_passing }
    }
}

/// Why something could not be asked, in all its forms.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Acme(#[from] Error),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("a key cannot be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("{0}")]
    Said(String),
}

/// What an authority says, in one line of bounded length. It stands in logs and in what is kept.
fn words(said: impl Display) -> String {
    let said = said.to_string();
    said.chars().map(|each| if each.is_control() { ' ' } else { each }).take(WORDS_MAX).collect()
}

fn is(problem: &Problem, kind: &str) -> bool {
    let own = problem.r#type.as_deref().and_then(|own| own.strip_prefix("urn:ietf:params:acme:error:"));
    own == Some(kind)
}

fn kind(proof: Proof) -> ChallengeType {
    match proof {
        Proof::Tls => ChallengeType::TlsAlpn01,
        Proof::Http => ChallengeType::Http01,
    }
}

/// What the authority knows a certificate by.
fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    let (authority, serial) = certificate.issued_as()?;
    Some(CertificateIdentifier::new(Der::from_slice(authority), Der::from_slice(serial)).into_owned())
}
