//! JSON Web Signatures in compact serialization (RFC 7515) as values: taken apart here, verified by whoever holds the
//! keys, read only afterwards. No crypto library and no clock.

use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, value::RawValue};

use crate::Limits;

/// Why a token is refused. For the operator's log; the bearer learns `invalid_token` only. No variant holds a part of
/// the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than the limit.
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
    /// `typ` is not that of a JWT access token, and only 1.0 is served.
    #[error("typ is {typ}, protocol 1.0 wants \"at+jwt\"")]
    NotAccessToken {
        /// What the header says, or that it says nothing.
        typ: Shown,
    },
    /// No issuer is named.
    #[error("the token has no \"iss\" claim, which names its issuer")]
    IssuerMissing,
    /// Another issuer than those that are trusted.
    #[error("iss is {issuer}, which is none of the issuers that this hub trusts")]
    IssuerUnknown {
        /// What the claim says.
        issuer: Shown,
    },
    /// No key is configured for this role.
    #[error("no key is configured to verify {role} tokens of issuer {issuer}")]
    NoKey {
        /// Whose tokens are asked for.
        role: Role,
        /// The issuer that the token names, or whose keys serve 0.x tokens.
        issuer: Shown,
    },
    /// The hub would have to ask the issuer for its keys and gets no answer: nothing is known of the token.
    #[error("the keys that verify {role} tokens of issuer {issuer} cannot be fetched: {problem}")]
    KeysUnavailable {
        /// For whom they are.
        role: Role,
        /// Whose they are.
        issuer: Shown,
        /// What went wrong.
        problem: Shown,
    },
    /// The algorithm is not one that the configured keys are for.
    #[error("alg is {algorithm}, which no {role} key of issuer {issuer} is configured for")]
    Algorithm {
        /// What the header says.
        algorithm: Shown,
        /// Whose key was looked for.
        role: Role,
        /// The issuer.
        issuer: Shown,
    },
    /// The signature does not verify.
    #[error("the signature does not match the {role} key of issuer {issuer}")]
    Signature {
        /// Whose key was tried.
        role: Role,
        /// The issuer.
        issuer: Shown,
    },
    /// Another audience.
    #[error("aud holds {audience}, this hub is {resource}")]
    Audience {
        /// What the claim says.
        audience: Shown,
        /// The hub's resource identifier.
        resource: Shown,
    },
    /// No `exp`.
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
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A Mercure authorization detail is malformed, so the whole token is.
    #[error("\"authorization_details\", entry {entry}: {problem}")]
    Detail {
        /// Its place in the array, from 0.
        entry: usize,
        /// What is wrong, without its values.
        problem: String,
    },
    /// More Mercure authorization details than the limit.
    #[error("the token has more than {max} Mercure authorization details")]
    TooManyDetails {
        /// The bound in force.
        max: usize,
    },
    /// More matchers than the limit.
    #[error("the token grants more than {max} matchers")]
    TooManyMatchers {
        /// The bound in force.
        max: usize,
    },
}

/// What a token is presented for. The two have separate keys, so that who may make the one cannot make the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// To publish.
    Publisher,
    /// To subscribe, and to read who is subscribed.
    Subscriber,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}

/// A text from outside, made fit for a log: quoted, without control characters, and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    const CHARS_MAX: usize = 200;

    /// Quotes `text`.
    pub fn new(text: &str) -> Self {
        let cut = text.char_indices().nth(Self::CHARS_MAX).map(|(at, _)| at);
        Self(match cut {
            None => format!("{text:?}"),
            Some(at) => format!("{:?}…", &text[..at]),
        })
    }

    /// Words of the hub's own.
    pub fn words(words: &str) -> Self {
        Self(words.to_owned())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token taken apart, its claims out of reach until the signature has been verified.
pub struct Unverified<'a> {
    header: Header,
    signing_input: &'a str,
    claims: Vec<u8>,
    signature: &'a str,
}

struct Header {
    alg: String,
    typ: String,
    kid: String,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, TokenError> {
        let members: Map<String, Value> = serde_json::from_slice(json).map_err(|_| TokenError::Header)?;
        // Whatever its value: present is present (RFC 7515, section 4.1.11).
        if members.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let text = |name: &str| match members.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(TokenError::Header),
        };
        let header = Self { alg: text("alg")?, typ: text("typ")?, kid: text("kid")? };
        if header.alg.is_empty() { Err(TokenError::Header) } else { Ok(header) }
    }
}

impl<'a> Unverified<'a> {
    /// Takes a token apart and refuses what no key can make valid.
    ///
    /// # Errors
    /// [`TokenError::TooLong`], [`TokenError::Malformed`], [`TokenError::Header`], [`TokenError::Critical`].
    pub fn parse(token: &'a str, limits: &Limits) -> Result<Self, TokenError> {
        if token.len() > limits.token_bytes_max {
            return Err(TokenError::TooLong { max: limits.token_bytes_max });
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let (header, claims) = (decode(header)?, decode(claims)?);
        decode(signature)?;
        let header = Header::parse(&header)?;
        Ok(Self { header, signing_input, claims, signature })
    }

    /// The algorithm that the token names. Never chosen from: compare it with what the key is for.
    pub fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// The name of the key, if the token gives one: a hint among trusted keys.
    pub fn key_id(&self) -> Option<&str> {
        (!self.header.kid.is_empty()).then_some(&self.header.kid)
    }

    /// Who claims to have issued the token: decides whose keys are tried, and nothing else before they verify it.
    pub fn claimed_issuer(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Claims {
            iss: Option<String>,
        }
        serde_json::from_slice::<Claims>(&self.claims).ok()?.iss
    }

    /// Refuses what is no RFC 9068 access token.
    ///
    /// # Errors
    /// [`TokenError::NotAccessToken`].
    pub fn require_access_token(&self) -> Result<(), TokenError> {
        match self.header.typ.as_str() {
            _ if self.is_access_token() => Ok(()),
            "" => Err(TokenError::NotAccessToken { typ: Shown::words("absent") }),
            typ => Err(TokenError::NotAccessToken { typ: Shown::new(typ) }),
        }
    }

    /// Whether `typ` marks an RFC 9068 access token, hence protocol 1.0.
    pub fn is_access_token(&self) -> bool {
        let typ = self.header.typ.as_str();
        let subtype = match typ.get(..12) {
            Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
            _ => typ,
        };
        subtype.eq_ignore_ascii_case("at+jwt")
    }

    /// Opens the claims if `verify(signing input, signature in base64url)` finds nothing wrong with the signature.
    ///
    /// # Errors
    /// What `verify` finds; [`TokenError::Claims`].
    pub fn verify(
        self,
        verify: impl FnOnce(&str, &str) -> Result<(), TokenError>,
    ) -> Result<Claims, TokenError> {
        verify(self.signing_input, self.signature)?;
        Claims::from_json(&self.claims)
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}

/// The claims of a token whose signature has been verified.
///
/// Their text is kept as it was signed, so that what is passed on is passed on unchanged.
pub struct Claims(HashMap<String, Box<RawValue>>);

impl Claims {
    /// From the JSON text of an object. Whoever calls this vouches for its origin.
    ///
    /// # Errors
    /// [`TokenError::Claims`].
    pub fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        serde_json::from_slice(json).map(Self).map_err(|_| TokenError::Claims)
    }

    /// The JSON text of a claim; `None` if it is absent or null.
    pub fn json(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.get()).filter(|json| *json != "null")
    }

    /// Checks what protocol 1.0 asks of an access token beside its type, signature and lifetime (section "Token
    /// Validation"): that `iss` is the issuer whose key has verified it, and that `aud` holds this hub.
    ///
    /// # Errors
    /// [`TokenError::IssuerMissing`], [`TokenError::IssuerUnknown`], [`TokenError::Audience`], [`TokenError::Claim`].
    pub fn check_party(&self, issuer: &str, resource: &str) -> Result<(), TokenError> {
        let found: String = match self.json("iss").map(serde_json::from_str) {
            None => return Err(TokenError::IssuerMissing),
            Some(Err(_)) => return Err(TokenError::Claim { claim: "iss", expected: "a string" }),
            Some(Ok(found)) => found,
        };
        if found != issuer {
            return Err(TokenError::IssuerUnknown { issuer: Shown::new(&found) });
        }
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Audience {
            One(String),
            Several(Vec<String>),
        }
        let wrong = |audience| Err(TokenError::Audience { audience, resource: Shown::new(resource) });
        match self.json("aud").map(serde_json::from_str) {
            None => wrong(Shown::words("nothing")),
            Some(Err(_)) => {
                Err(TokenError::Claim { claim: "aud", expected: "a string or an array of strings" })
            }
            Some(Ok(Audience::One(one))) if one == resource => Ok(()),
            Some(Ok(Audience::One(one))) => wrong(Shown::new(&one)),
            Some(Ok(Audience::Several(several))) if several.iter().any(|each| each == resource) => Ok(()),
            Some(Ok(Audience::Several(several))) => wrong(Shown::new(&several.join(" "))),
        }
    }

    /// Checks `exp` and `nbf` (RFC 7519, sections 4.1.4 and 4.1.5) without leeway, and returns `exp`. Both are in
    /// seconds since the Unix epoch, as is `now`.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`], [`TokenError::Claim`] when one is no number.
    pub fn check_lifetime(&self, now: f64) -> Result<Option<f64>, TokenError> {
        let date = |claim: &'static str| {
            let malformed = |_| TokenError::Claim { claim, expected: "a number of seconds since 1970" };
            self.json(claim).map(serde_json::from_str::<f64>).transpose().map_err(malformed)
        };
        if date("nbf")?.is_some_and(|not_before| now < not_before) {
            return Err(TokenError::NotYetValid);
        }
        match date("exp")? {
            Some(expiry) if now >= expiry => Err(TokenError::Expired),
            expiry => Ok(expiry),
        }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn parse_error(token: &str) -> TokenError {
        Unverified::parse(token, &Limits::default()).expect_err(token)
    }

    fn claims(value: &Value) -> Claims {
        Claims(serde_json::from_str(&value.to_string()).expect("an object"))
    }

    #[test]
    fn the_example_of_rfc_7515_is_taken_apart() {
        // Appendix A.1.
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                     Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let unverified = Unverified::parse(token, &Limits::default()).expect("well-formed");
        assert_eq!((unverified.algorithm(), unverified.is_access_token()), ("HS256", false));
        let claims = unverified
            .verify(|input, signature| {
                assert!(
                    token.starts_with(input) && signature == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
                );
                Ok(())
            })
            .expect("an object");
        assert_eq!(claims.json("iss"), Some("\"joe\""));
        assert_eq!(claims.check_lifetime(1_300_819_379.0), Ok(Some(1_300_819_380.0)));
        assert_eq!(claims.check_lifetime(1_300_819_380.0), Err(TokenError::Expired));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for bad in ["", ".", "..", "a.b", "a.b.c.d", "e30=.e30.", "e30.e30", "!.e30.x"] {
            let error = parse_error(bad);
            assert!(matches!(error, TokenError::Malformed | TokenError::Header), "{bad}: {error}");
        }
        assert_eq!(parse_error(&token("[]", "{}")), TokenError::Header);
        assert_eq!(parse_error(&token("{}", "{}")), TokenError::Header);
        assert_eq!(parse_error(&token(r#"{"alg":1}"#, "{}")), TokenError::Header);
        assert_eq!(parse_error(&token(r#"{"alg":"HS256","crit":["x"]}"#, "{}")), TokenError::Critical);
        assert_eq!(parse_error(&token(r#"{"alg":"HS256","crit":null}"#, "{}")), TokenError::Critical);
        assert_eq!(parse_error(&token(r#"{"alg":"HS256","typ":1}"#, "{}")), TokenError::Header);
        assert_eq!(parse_error(&"a".repeat(16 * 1024 + 1)), TokenError::TooLong { max: 16 * 1024 });
    }

    #[test]
    fn claims_stay_closed_when_the_signature_is_wrong() {
        let token = token(r#"{"alg":"HS256"}"#, "{}");
        let unverified = Unverified::parse(&token, &Limits::default()).expect("well-formed");
        let wrong = TokenError::Signature { role: Role::Publisher, issuer: Shown::new("me") };
        assert_eq!(unverified.verify(|_, _| Err(wrong.clone())).err(), Some(wrong));
    }

    #[test]
    fn parties_are_checked_and_named() {
        let check = |value: Value| claims(&value).check_party("https://a.example", "https://hub.example/m");
        assert_eq!(check(json!({"iss": "https://a.example", "aud": "https://hub.example/m"})), Ok(()));
        assert_eq!(check(json!({"iss": "https://a.example", "aud": ["x", "https://hub.example/m"]})), Ok(()));
        for (value, reason) in [
            (json!({}), "the token has no \"iss\" claim, which names its issuer"),
            (json!({"iss": ["https://a.example"]}), "the claim \"iss\" is malformed: expected a string"),
            (
                json!({"iss": "https://b.example"}),
                "iss is \"https://b.example\", which is none of the issuers that this hub trusts",
            ),
            (json!({"iss": "https://a.example"}), "aud holds nothing, this hub is \"https://hub.example/m\""),
            (
                json!({"iss": "https://a.example", "aud": "https://other.example/m"}),
                "aud holds \"https://other.example/m\", this hub is \"https://hub.example/m\"",
            ),
            (
                json!({"iss": "https://a.example", "aud": ["a", "b"]}),
                "aud holds \"a b\", this hub is \"https://hub.example/m\"",
            ),
            (
                json!({"iss": "https://a.example", "aud": [1]}),
                "the claim \"aud\" is malformed: expected a string or an array of strings",
            ),
        ] {
            assert_eq!(check(value.clone()).expect_err("wrong").to_string(), reason, "{value}");
        }
    }

    #[test]
    fn what_a_log_shows_is_quoted_and_short() {
        assert_eq!(Shown::new("a\nb\u{202e}").to_string(), r#""a\nb\u{202e}""#);
        assert!(Shown::new(&"é".repeat(5_000)).to_string().chars().count() < 210);
    }

    #[test]
    fn only_access_tokens_are_access_tokens() {
        let require = |header: &str| {
            let token = token(header, "{}");
            Unverified::parse(&token, &Limits::default()).expect("well-formed").require_access_token()
        };
        assert_eq!(require(r#"{"alg":"HS256","typ":"AT+jwt"}"#), Ok(()));
        let reason = |header: &str| require(header).expect_err("refused").to_string();
        assert_eq!(reason(r#"{"alg":"HS256","typ":"JWT"}"#), "typ is \"JWT\", protocol 1.0 wants \"at+jwt\"");
        assert_eq!(reason(r#"{"alg":"HS256"}"#), "typ is absent, protocol 1.0 wants \"at+jwt\"");
    }

    #[test]
    fn access_tokens_are_recognised_in_every_spelling() {
        for (typ, expected) in [
            ("at+jwt", true),
            ("AT+JWT", true),
            ("application/at+jwt", true),
            ("Application/At+Jwt", true),
            ("JWT", false),
            ("", false),
        ] {
            let token = token(&json!({"alg": "HS256", "typ": typ}).to_string(), "{}");
            let unverified = Unverified::parse(&token, &Limits::default()).expect("well-formed");
            assert_eq!(unverified.is_access_token(), expected, "{typ}");
        }
    }

    #[test]
    fn dates_are_numbers_and_enforced_without_leeway() {
        assert_eq!(claims(&json!({})).check_lifetime(5.0), Ok(None));
        assert_eq!(claims(&json!({"exp": 5.5})).check_lifetime(5.0), Ok(Some(5.5)));
        assert_eq!(claims(&json!({"nbf": 5})).check_lifetime(5.0), Ok(None));
        assert_eq!(claims(&json!({"nbf": 6})).check_lifetime(5.0), Err(TokenError::NotYetValid));
        for claim in ["exp", "nbf"] {
            for bad in [json!("9999999999"), json!(true), json!([])] {
                assert!(matches!(
                    claims(&json!({claim: bad})).check_lifetime(5.0),
                    Err(TokenError::Claim { .. })
                ));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(?s)[A-Za-z0-9_.=-]{0,60}|.{0,30}") {
            let _ = Unverified::parse(&text, &Limits::default());
        }
    }
}
