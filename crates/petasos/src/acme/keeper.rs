//! The task that keeps a certificate: it takes up the one that is kept, orders when that is due and nobody else does, and waits.
//!
//! Nothing that fails here ends a connection: the certificate that is there goes on.

use std::{
    cmp,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use petasos_hub::documents::Version;
use petasos_server::Certificate;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::certificates::Certificates;

use super::{
    authority::{Authority, Begun, Refused},
    challenges::{Challenges, FRESH},
    options::AcmeOptions,
    report::Report,
    schedule::{Lifetime, Window, next_attempt},
    shelf::{Course, Issued, Lease, Shelf, ShelfError, millis},
};

/// Keeps the certificate of a hub.
pub(crate) struct Keeper {
    authority: Authority,
    shelf: Shelf,
    challenges: Challenges,
    offer: Certificates,
    report: Arc<Report>,
    /// A random text.
    node: String,
    current: Option<Current>,
    unsaved: Option<Unsaved>,
    /// Why what is kept could not be had the last time.
    unkept: Option<String>,
}

/// The certificate that is offered.
struct Current {
    certificate: Certificate,
    /// `None`: it is not kept yet.
    version: Option<Version>,
    lifetime: Option<Lifetime>,
    taken_up_at: SystemTime,
    advice: Option<Window>,
    /// When the authority is asked for its advice.
    ask_at: SystemTime,
    /// Where in a window of renewals this node stands, from 0 to 1.
    random: f64,
}

/// A certificate that is offered, and that the store has not taken yet. It is gone with this process.
struct Unsaved {
    issued: Issued,
    /// What is written down with it.
    course: Course,
    /// How often the store has not taken it.
    failures: u32,
}

/// The first pause until the store is asked again to take a certificate. It doubles each time, up to [`LOOK`].
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// How often a node looks whether another one has renewed the certificate: between this and twice as long.
const LOOK: Duration = Duration::from_secs(30);

/// How often it looks while another node orders, or while it has no certificate.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// A node that orders has this time, and after it another one may. An order takes some seconds.
const LEASE: Duration = Duration::from_secs(150);
const ORDER_MAX: Duration = Duration::from_secs(140);

/// Orders in one attempt, if the authority refuses the nonces of the others. The client has tried each three times by then.
const ORDERS_MAX: usize = 3;

/// How often the authority is asked for its advice when to renew, whatever it says itself.
const ADVICE_MIN: Duration = Duration::from_secs(3600);
const ADVICE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest pause after a renewal.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// When a certificate is renewed that does not say in a known form how long it counts.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long it may take to save a certificate and to say that nothing is ordered any more, when the hub stops. Without that, the
/// next one waits until the lease is over.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// How long a hub that starts waits for the certificate that is kept.
const PREPARE_MAX: Duration = Duration::from_secs(5);

/// Says that nobody renews the certificate any more, if a defect has ended the task.
struct Ended(Arc<Report>);

impl Drop for Ended {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set_problem(Some(
                "a defect of the hub has ended its renewal: start the hub again".to_owned(),
            ));
        }
    }
}

impl Keeper {
    /// # Errors
    /// In words, if no authority could be asked.
    pub(crate) fn new(
        options: AcmeOptions,
        shelf: Shelf,
        challenges: Challenges,
        offer: Certificates,
        report: Arc<Report>,
    ) -> Result<Self, String> {
        let authority = Authority::new(options, shelf.clone())?;
        Ok(Self {
            authority,
            shelf,
            challenges,
            offer,
            report,
            node: Uuid::new_v4().to_string(),
            current: None,
            unsaved: None,
            unkept: None,
        })
    }

    /// Offers the certificate that is kept, before clients come. What fails here is tried again by [`Keeper::run`].
    pub(crate) async fn prepare(&mut self) {
        let _ = timeout(PREPARE_MAX, self.take_up()).await;
    }

    /// Keeps the certificate until `stopping`.
    pub(crate) async fn run(mut self, stopping: impl Future<Output = ()>) {
        let _guard = Ended(Arc::clone(&self.report));
        let mut stopping = std::pin::pin!(stopping);
        loop {
            let pause = tokio::select! {
                pause = self.turn() => pause,
                () = &mut stopping => break,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut stopping => return,
            }
        }
        // It may have ordered just now.
        let _ = timeout(RELEASE_MAX, async {
            self.save().await?;
            self.release().await
        })
        .await;
    }

    /// Does what is due, and answers how long nothing is.
    async fn turn(&mut self) -> Duration {
        match self.try_turn().await {
            Ok(pause) => {
                self.unkept = None;
                pause
            }
            Err(error) => {
                if let Some(unsaved) = &self.unsaved {
                    let pause =
                        SAVE_PAUSE.saturating_mul(2_u32.saturating_pow(unsaved.failures.saturating_sub(1)));
                    return pause.min(LOOK).mul_f64(1.0 + random());
                }
                // Once for each outage: the log says the same of its store.
                let text = error.to_string();
                if self.unkept.as_ref() != Some(&text) {
                    tracing::warn!(%error, "the certificate that is kept cannot be looked for: the one that is there goes on");
                }
                if self.current.is_none() {
                    self.report.set_problem(Some(text.clone()));
                }
                self.unkept = Some(text);
                if self.current.is_none() { LOOK_SOON } else { LOOK.mul_f64(1.0 + random()) }
            }
        }
    }

    async fn try_turn(&mut self) -> Result<Duration, ShelfError> {
        match self.save().await {
            // What is not kept when the next one is due is given up.
            Err(_) if self.due() <= SystemTime::now() => {
                self.unsaved = None;
                self.report.set_unsaved(None);
            }
            saved => saved?,
        }
        self.take_up().await?;
        self.ask_advice().await;
        let now = SystemTime::now();
        let due = self.due();
        let (course, version) = self.shelf.course().await?;
        self.report.set_problem(course.problem.clone());
        let look = LOOK.mul_f64(1.0 + random());
        let until = |time: SystemTime| time.duration_since(now).unwrap_or_default();
        if due > now {
            return Ok(cmp::min(look, until(due)));
        }
        let soon = if self.is_usable(now) { LOOK_SOON * 2 } else { LOOK_SOON };
        if course.is_taken(&self.node, now, LEASE) {
            return Ok(soon);
        }
        let next_attempt = course.next_attempt(now);
        if next_attempt > now {
            return Ok(cmp::min(look, until(next_attempt).max(LOOK_SOON)));
        }
        let lease = Lease { node: self.node.clone(), ends: millis(now + LEASE) };
        let taken = Course { lease: Some(lease), ..course };
        let Some(version) = self.shelf.set_course(&taken, version).await? else { return Ok(soon) };
        // Another node may have ordered between the two looks.
        self.take_up().await?;
        if self.due() > SystemTime::now() {
            self.release().await?;
            return Ok(Duration::ZERO);
        }
        self.order(taken, version).await?;
        Ok(Duration::ZERO)
    }

    /// Orders a certificate. What comes of it is written down.
    async fn order(&mut self, taken: Course, version: Version) -> Result<(), ShelfError> {
        let is_renewal = self.is_usable(SystemTime::now());
        let ordered = timeout(ORDER_MAX, async {
            let mut version = version;
            for _ in 1..ORDERS_MAX {
                match self.try_order(&taken, &mut version).await {
                    Err(NotOrdered::Refused(refused)) if refused.is_passing => {}
                    ordered => return ordered,
                }
            }
            self.try_order(&taken, &mut version).await
        });
        let ordered = ordered.await;
        let (problem, again_at) = match ordered {
            Ok(Ok(issued)) => {
                self.challenges.set(Vec::new()).await;
                self.offer_issued(issued)?;
                let now = SystemTime::now();
                if self.due() > now {
                    self.report.issued();
                    // An authority that advises to renew each certificate at once is asked once an hour.
                    let pause = if is_renewal { self.pause_after_renewal() } else { Duration::ZERO };
                    if let Some(unsaved) = &mut self.unsaved {
                        unsaved.course.not_before = millis(now + pause);
                    }
                    return self.save().await;
                }
                self.save().await?;
                // Else it would order again and again.
                let problem =
                    "the new certificate would have to be renewed already: set the clock of this machine";
                (problem.to_owned(), None)
            }
            Ok(Err(NotOrdered::Lost)) => return Ok(()),
            Ok(Err(NotOrdered::Refused(refused))) => (refused.to_string(), refused.again_at),
            Ok(Err(NotOrdered::Unkept(error))) => (error.to_string(), None),
            Err(_) => ("the authority took too long".to_owned(), None),
        };
        let (now, failures) = (SystemTime::now(), taken.failures.saturating_add(1));
        let next = next_attempt(now, failures, again_at, random());
        let shown = humantime::format_duration(Duration::from_secs(
            next.duration_since(now).unwrap_or_default().as_secs(),
        ));
        match self.is_usable(now) {
            true => tracing::warn!(
                setting = "acme_domains",
                "the certificate was not renewed, and the one that is there goes on; the next attempt is in {shown}: {problem}"
            ),
            false => tracing::error!(
                setting = "acme_domains",
                "there is no certificate, so clients are refused; the next attempt is in {shown}: {problem}"
            ),
        }
        self.report.failed(problem.clone());
        self.challenges.set(Vec::new()).await;
        let not_before = millis(next);
        self.settle(Course { failures, not_before, problem: Some(problem), ..Course::default() }).await
    }

    async fn try_order(&mut self, taken: &Course, version: &mut Version) -> Result<Issued, NotOrdered> {
        let replaced = self.current.as_ref().map(|current| &current.certificate);
        let begun: Begun = self.authority.begin(replaced).await?;
        let challenges = begun.challenges.clone();
        // Before the authority is told, so that every node that it asks can answer.
        let course = Course { challenges: challenges.clone(), ..taken.clone() };
        let Some(next) = self.shelf.set_course(&course, Some(*version)).await? else {
            return Err(NotOrdered::Lost);
        };
        *version = next;
        self.challenges.set(challenges).await;
        // A node that has looked just now finds them by then.
        sleep(FRESH).await;
        Ok(self.authority.finish(begun).await?)
    }

    /// Offers a certificate that has just been issued. It is saved by [`Keeper::save`].
    fn offer_issued(&mut self, issued: Issued) -> Result<(), ShelfError> {
        let certificate = Certificate::parse(issued.chain.as_bytes(), issued.key.as_bytes())?;
        self.offer_one(certificate, None);
        self.unsaved = Some(Unsaved { issued, course: Course::default(), failures: 0 });
        Ok(())
    }

    /// Saves the certificate that is not kept yet, if there is one: an authority gives few for a name. Until the store takes it, it is
    /// offered all the same.
    async fn save(&mut self) -> Result<(), ShelfError> {
        let Some(unsaved) = &mut self.unsaved else { return Ok(()) };
        let expires = self.current.as_ref().and_then(|current| current.certificate.expires());
        let kept = self.shelf.keep_certificate(&unsaved.issued, expires).await;
        if let Err(error) = kept {
            unsaved.failures = unsaved.failures.saturating_add(1);
            if unsaved.failures == 1 {
                tracing::warn!(%error, "the new certificate is offered and cannot be saved yet, so this is tried again: if the hub ends before, it orders another one");
            }
            self.report.set_unsaved(Some(error.to_string()));
            return Err(error);
        }
        if unsaved.failures > 0 {
            tracing::info!("the certificate is saved");
        }
        if let (Some(current), Ok(version)) = (&mut self.current, kept) {
            current.version = version;
        }
        let course = std::mem::take(&mut unsaved.course);
        self.unsaved = None;
        self.report.set_unsaved(None);
        self.take_up().await?;
        self.settle(course).await
    }

    /// Writes a course down, unless another node has the lease.
    async fn settle(&self, course: Course) -> Result<(), ShelfError> {
        loop {
            let (found, version) = self.shelf.course().await?;
            if found.lease.as_ref().is_none_or(|lease| lease.node != self.node) {
                return Ok(());
            }
            if self.shelf.set_course(&course, version).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Says that this node does not order.
    async fn release(&self) -> Result<(), ShelfError> {
        let (course, _) = self.shelf.course().await?;
        self.settle(Course { lease: None, challenges: Vec::new(), ..course }).await
    }

    /// Offers the certificate that is kept, if it is another one.
    async fn take_up(&mut self) -> Result<(), ShelfError> {
        let kept = match self.shelf.certificate().await {
            // One that cannot be used counts as none, so that it is ordered anew.
            Err(ShelfError::Certificate(error)) => {
                tracing::warn!(%error, "the certificate that is kept cannot be used");
                None
            }
            kept => kept?,
        };
        // The one that is kept is older than one that is not kept yet.
        let Some(kept) = kept.filter(|_| self.unsaved.is_none()) else { return Ok(()) };
        if self.current.as_ref().is_none_or(|current| current.version != Some(kept.version)) {
            self.offer_one(kept.certificate, Some(kept.version));
        }
        Ok(())
    }

    fn offer_one(&mut self, certificate: Certificate, version: Option<Version>) {
        let expires = certificate.expires().map(crate::certificates::day).unwrap_or_default();
        tracing::info!(name = certificate.name(), expires, "the certificate of ACME is offered");
        self.offer.set_acme(certificate.clone());
        self.current = Some(Current {
            lifetime: Lifetime::new(&certificate),
            certificate,
            version,
            taken_up_at: SystemTime::now(),
            advice: None,
            ask_at: SystemTime::now(),
            random: random(),
        });
    }

    async fn ask_advice(&mut self) {
        let now = SystemTime::now();
        let Some(current) = self.current.as_mut().filter(|current| current.ask_at <= now) else { return };
        let pause = match self.authority.advice(&current.certificate).await {
            Some((window, counts)) => {
                current.advice = Some(window);
                counts.clamp(ADVICE_MIN, ADVICE_MAX)
            }
            None => ADVICE_MIN,
        };
        current.ask_at = now + pause;
    }

    /// When the next certificate is to be ordered.
    fn due(&self) -> SystemTime {
        let Some(current) = &self.current else { return SystemTime::UNIX_EPOCH };
        match current.lifetime {
            Some(lifetime) => lifetime.renewal(current.advice, current.random),
            None => current.taken_up_at + UNKNOWN_LIFETIME,
        }
    }

    /// How long nothing is ordered after a renewal.
    fn pause_after_renewal(&self) -> Duration {
        let lifetime = self.current.as_ref().and_then(|current| current.lifetime);
        let whole = lifetime.map(|each| each.expires.duration_since(each.begins).unwrap_or_default());
        whole.map_or(PAUSE_MAX, |whole| (whole / 10).min(PAUSE_MAX))
    }

    fn is_usable(&self, now: SystemTime) -> bool {
        let lifetime = self.current.as_ref().and_then(|current| current.lifetime);
        self.current.is_some() && lifetime.is_none_or(|lifetime| lifetime.expires > now)
    }
}

/// Why an order was not finished.
enum NotOrdered {
    /// Another node has taken it over.
    Lost,
    Refused(Refused),
    /// What was ordered could not be kept.
    Unkept(ShelfError),
}

impl From<Refused> for NotOrdered {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<ShelfError> for NotOrdered {
    fn from(error: ShelfError) -> Self {
        Self::Unkept(error)
    }
}

/// From 0 to 1.
fn random() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
    };

    use async_trait::async_trait;
    use petasos_hub::{
        TransportError,
        documents::{Document, Documents},
    };
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use zeroize::Zeroizing;

    use super::*;

    /// Takes documents, unless it refuses them.
    #[derive(Default)]
    struct Store {
        documents: Mutex<HashMap<String, Document>>,
        refuses: AtomicBool,
    }

    #[async_trait]
    impl Documents for Store {
        async fn load(&self, name: &str) -> Result<Option<Document>, TransportError> {
            Ok(self.documents.lock().expect("no panic").get(name).cloned())
        }

        async fn store(
            &self,
            name: &str,
            bytes: &[u8],
            expected: Option<Version>,
        ) -> Result<Option<Version>, TransportError> {
            if self.refuses.load(Ordering::Relaxed) {
                return Err(TransportError::unavailable("it refuses"));
            }
            let mut documents = self.documents.lock().expect("no panic");
            let found = documents.get(name).map(|document| document.version);
            if found != expected {
                return Ok(None);
            }
            let version = Version(found.map_or(1, |found| found.0 + 1));
            documents.insert(name.to_owned(), Document { bytes: bytes.to_vec(), version });
            Ok(Some(version))
        }
    }

    /// A certificate that expires at the end of that year.
    fn issued(year: i32) -> Issued {
        let mut params = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let chain = params.self_signed(&key).expect("a certificate").pem();
        Issued { chain, key: Zeroizing::new(key.serialize_pem()) }
    }

    #[tokio::test]
    async fn a_certificate_that_the_store_does_not_take_is_offered_and_saved_later() {
        let store = Arc::new(Store::default());
        let options = AcmeOptions { domains: vec!["a.example".to_owned()], ..AcmeOptions::default() };
        let shelf = Shelf::new(store.clone(), &options);
        let (offer, report) =
            (Certificates::new(Vec::new()).expect("random bytes"), Arc::<Report>::default());
        let challenges = Challenges::new(shelf.clone(), &options.domains);
        let mut keeper = Keeper::new(options, shelf.clone(), challenges, offer.clone(), Arc::clone(&report))
            .expect("a keeper");
        let expires = async |shelf: &Shelf| {
            shelf.certificate().await.expect("it answers").map(|kept| kept.certificate.expires())
        };
        shelf.keep_certificate(&issued(2_100), None).await.expect("it takes the first one");
        keeper.take_up().await.expect("it is there");
        let first = expires(&shelf).await;

        store.refuses.store(true, Ordering::Relaxed);
        keeper.offer_issued(issued(2_200)).expect("it can be used");
        for _ in 0..2 {
            assert!(keeper.turn().await <= 2 * LOOK, "it is tried again");
            let offered = keeper.current.as_ref().expect("one").certificate.expires();
            assert!(Some(offered) > first, "the new one is offered, whatever is kept");
            assert!(report.unsaved().is_some_and(|problem| problem.contains("it refuses")));
        }
        store.refuses.store(false, Ordering::Relaxed);
        keeper.save().await.expect("it is saved");
        assert_eq!((report.unsaved(), keeper.unsaved.is_none()), (None, true));
        let second = expires(&shelf).await;
        assert!(second > first);
        let version = keeper.current.as_ref().expect("one").version;
        keeper.take_up().await.expect("it is there");
        assert_eq!(keeper.current.as_ref().expect("one").version, version, "it is the same");

        // Another node orders meanwhile.
        keeper.offer_issued(issued(2_300)).expect("it can be used");
        shelf.keep_certificate(&issued(2_400), None).await.expect("it is kept");
        keeper.save().await.expect("one is saved");
        let offered = keeper.current.as_ref().expect("one").certificate.expires();
        assert_eq!(Some(offered), expires(&shelf).await, "the later one is kept and offered");
    }

    #[test]
    fn a_defect_that_ends_the_renewal_is_reported() {
        let report = Arc::<Report>::default();
        drop(Ended(Arc::clone(&report)));
        assert_eq!(report.problem(), None);
        let ended = Ended(Arc::clone(&report));
        let defect = thread::spawn(move || {
            let _ended = ended;
            panic!("a defect, on purpose");
        });
        assert!(defect.join().is_err());
        assert!(report.problem().is_some_and(|problem| problem.contains("start the hub again")));
    }
}
