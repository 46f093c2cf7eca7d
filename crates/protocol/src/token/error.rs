//! Why a token is refused, in words that are safe to log.

use std::fmt;

use super::Role;

/// Why a token is refused.
///
/// The message is for the operator's log: the bearer only learns `invalid_token`. No variant holds the token or its
/// signature. What a token names (`iss`, `aud`, `alg`, `typ`) is held as [`Shown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`Limits::token_bytes_max`](crate::Limits::token_bytes_max).
    #[error("the token is longer than {max} bytes")]
    TooLong {
        /// The bound in force.
        max: usize,
    },
    /// Not three parts of base64url.
    #[error("the token is no JWS in compact serialization")]
    Malformed,
    /// The protected header is no JSON object with an `alg`.
    #[error("the token's header is no JSON object with an \"alg\"")]
    Header,
    /// `crit` is present; this hub understands no critical extension.
    #[error("the token's header has a \"crit\" member, which this hub does not understand")]
    Critical,
    /// `typ` is not that of a JWT access token (RFC 9068), and the hub serves only protocol 1.0.
    #[error("typ is {typ}, protocol 1.0 wants \"at+jwt\"")]
    NotAccessToken {
        /// The value in the header, or the word "absent".
        typ: Shown,
    },
    /// There is no `iss` claim.
    #[error("the token has no \"iss\" claim, which names its issuer")]
    IssuerMissing,
    /// The issuer is none of those that the hub trusts.
    #[error("iss is {issuer}, which is none of the issuers that this hub trusts")]
    IssuerUnknown {
        /// The value of the claim.
        issuer: Shown,
    },
    /// No key is configured for this role.
    #[error("no key is configured to verify {role} tokens of issuer {issuer}")]
    NoKey {
        /// The role whose key is missing.
        role: Role,
        /// The issuer that the token names, or whose keys serve 0.x tokens.
        issuer: Shown,
    },
    /// The hub needs the keys of the issuer and cannot fetch them, so the token is neither valid nor invalid.
    #[error("the keys that verify {role} tokens of issuer {issuer} cannot be fetched: {problem}")]
    KeysUnavailable {
        /// The role that the keys are for.
        role: Role,
        /// The issuer whose keys they are.
        issuer: Shown,
        /// What went wrong.
        problem: Shown,
    },
    /// No configured key is for the algorithm of the token.
    #[error("alg is {algorithm}, which no {role} key of issuer {issuer} is configured for")]
    Algorithm {
        /// The value in the header.
        algorithm: Shown,
        /// The role whose keys were searched.
        role: Role,
        /// The issuer.
        issuer: Shown,
    },
    /// The signature does not verify.
    #[error("the signature does not match the {role} key of issuer {issuer}")]
    Signature {
        /// The role whose keys were tried.
        role: Role,
        /// The issuer.
        issuer: Shown,
    },
    /// `aud` does not hold this hub.
    #[error("aud holds {audience}, this hub is {resource}")]
    Audience {
        /// The values of the claim.
        audience: Shown,
        /// The hub's resource identifier.
        resource: Shown,
    },
    /// There is no `exp` claim.
    #[error("the token has no \"exp\" claim, which protocol 1.0 requires")]
    ExpiryMissing,
    /// The claims are no JSON object.
    #[error("the token's claims are no JSON object")]
    Claims,
    /// A claim has the wrong form.
    #[error("the claim \"{claim}\" is malformed: expected {expected}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// Its proper form.
        expected: &'static str,
    },
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A Mercure authorization detail is malformed, which refuses the whole token.
    #[error("\"authorization_details\", entry {entry}: {problem}")]
    Detail {
        /// The index in the array, from 0.
        entry: usize,
        /// What is wrong, without its values.
        problem: String,
    },
    /// More Mercure authorization details than
    /// [`Limits::token_details_max`](crate::Limits::token_details_max).
    #[error("the token has more than {max} Mercure authorization details")]
    TooManyDetails {
        /// The bound in force.
        max: usize,
    },
    /// More matchers than [`Limits::token_matchers_max`](crate::Limits::token_matchers_max).
    #[error("the token grants more than {max} matchers")]
    TooManyMatchers {
        /// The bound in force.
        max: usize,
    },
}

/// A text from outside that is safe to log: quoted, its control characters escaped, and cut after 200 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    const CHARS_MAX: usize = 200;

    /// Quotes a text from outside.
    pub fn new(text: &str) -> Self {
        let cut = text.char_indices().nth(Self::CHARS_MAX).map(|(at, _)| at);
        Self(match cut {
            None => format!("{text:?}"),
            Some(at) => format!("{:?}…", &text[..at]),
        })
    }

    /// Takes words of the hub as they are.
    pub fn words(words: &str) -> Self {
        Self(words.to_owned())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_shows_is_quoted_and_short() {
        assert_eq!(Shown::new("a\nb\u{202e}").to_string(), r#""a\nb\u{202e}""#);
        let whole = "é".repeat(Shown::CHARS_MAX);
        assert_eq!(Shown::new(&whole).to_string(), format!("\"{whole}\""));
        assert_eq!(Shown::words("of 0.x tokens").to_string(), "of 0.x tokens");
        assert_eq!(Shown::new(&format!("{whole}x")).to_string(), format!("\"{whole}\"…"));
    }

    #[test]
    fn a_message_names_role_and_issuer() {
        let error =
            |role| TokenError::Signature { role, issuer: Shown::new("https://a.example") }.to_string();
        let expected = |role: &str| {
            format!("the signature does not match the {role} key of issuer \"https://a.example\"")
        };
        assert_eq!(error(Role::Publisher), expected("publisher"));
        assert_eq!(error(Role::Subscriber), expected("subscriber"));
    }
}
