//! When a certificate is renewed, and when an attempt that has failed is made again. Nothing here waits or asks.

use std::time::{Duration, SystemTime};

use petasos_server::Certificate;

/// The time in which a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) begins: SystemTime,
    pub(crate) expires: SystemTime,
}

/// What the authority advises (RFC 9773): to renew at some time of this window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
}

/// The first pause after a failure, and what each further failure multiplies it by. Let's Encrypt takes five failures of a name in
/// an hour: these are four.
const PAUSE: Duration = Duration::from_secs(60);
const GROWTH: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);

/// The longest pause that an authority may ask for.
pub(super) const ASKED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl Lifetime {
    /// Of a certificate. `None`: it does not say so in a form that is known.
    pub(crate) fn new(certificate: &Certificate) -> Option<Self> {
        let (begins, expires) = (certificate.begins()?, certificate.expires()?);
        (begins < expires).then_some(Self { begins, expires })
    }

    /// When to renew. `random`, from 0 to 1, spreads the renewals of many certificates.
    ///
    /// What the authority advises counts, as long as a tenth of the lifetime is left then. Without advice: at two thirds of the
    /// lifetime, or a little before.
    pub(crate) fn renewal(&self, advice: Option<Window>, random: f64) -> SystemTime {
        let whole = self.expires.duration_since(self.begins).unwrap_or_default();
        let random = random.clamp(0.0, 1.0);
        match advice {
            Some(Window { start, end }) => {
                let width = end.duration_since(start).unwrap_or_default();
                (start + width.mul_f64(random)).min(self.expires - whole / 10)
            }
            None => self.begins + (whole * 2 / 3).saturating_sub(whole.mul_f64(0.02 * random)),
        }
    }
}

/// When to try again after so many failures in a row, one at least. `asked`: when the authority has asked for it.
pub(crate) fn next_attempt(
    now: SystemTime,
    failures: u32,
    asked: Option<SystemTime>,
    random: f64,
) -> SystemTime {
    let growth = GROWTH.saturating_pow(failures.saturating_sub(1));
    let pause = PAUSE.saturating_mul(growth).min(PAUSE_MAX);
    // Up to a tenth more.
    let next = now + pause.mul_f64(1.0 + random.clamp(0.0, 1.0) / 10.0);
    asked.map_or(next, |asked| next.max(asked.min(now + ASKED_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * days
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime_or_when_the_authority_advises() {
        let lifetime = Lifetime { begins: at(0), expires: at(90) };
        assert_eq!(lifetime.renewal(None, 0.0), at(60));
        let early = lifetime.renewal(None, 1.0);
        assert!(early < at(60) && early > at(58));
        let advice = |start, end| Some(Window { start: at(start), end: at(end) });
        assert_eq!(lifetime.renewal(advice(30, 32), 0.5), at(31));
        assert_eq!(lifetime.renewal(advice(0, 0), 0.5), at(0), "as when it is revoked");
        assert_eq!(lifetime.renewal(advice(100, 200), 0.5), at(81), "before it is too late");
        assert_eq!(lifetime.renewal(advice(32, 30), 0.5), at(32), "a window that ends before it begins");
    }

    #[test]
    fn attempts_that_fail_become_rare_and_the_authority_may_ask_for_more() {
        let after = |failures, asked| {
            let next = next_attempt(at(1), failures, asked, 0.0);
            next.duration_since(at(1)).expect("later").as_secs()
        };
        assert_eq!([1, 2, 3, 4, 5].map(|failures| after(failures, None)), [60, 240, 960, 3_840, 15_360]);
        assert_eq!((after(6, None), after(u32::MAX, None)), (21_600, 21_600));
        assert_eq!(after(1, Some(at(2))), 24 * 3600);
        assert_eq!(after(1, Some(at(0))), 60, "what has passed does not count");
        assert_eq!(after(1, Some(at(300))), 7 * 24 * 3600);
        let spread = next_attempt(at(1), 1, None, 1.0).duration_since(at(1)).expect("later");
        assert_eq!(spread, Duration::from_secs(66));
    }
}
