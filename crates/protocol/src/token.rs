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
    /// `typ` says it is a 1.0 access token.
    #[error(
        "the token is of type at+jwt (protocol 1.0), which this hub does not serve yet: sign a 0.x token"
    )]
    AccessToken,
    /// The algorithm is not one that the configured key is for.
    #[error("the token's algorithm is not one of those the hub's key is configured for")]
    Algorithm,
    /// No key is configured for this role.
    #[error("no key is configured to verify {role} tokens")]
    NoKey {
        /// `publisher` or `subscriber`.
        role: &'static str,
    },
    /// The signature does not verify.
    #[error("the signature does not verify: the token was signed with another key")]
    Signature,
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
    /// More matchers than the limit.
    #[error("the token grants more than {max} topic selectors")]
    TooManyMatchers {
        /// The bound in force.
        max: usize,
    },
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
        let header = Self { alg: text("alg")?, typ: text("typ")? };
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

    /// Whether `typ` marks an RFC 9068 access token, hence protocol 1.0.
    pub fn is_access_token(&self) -> bool {
        let typ = self.header.typ.as_str();
        let subtype = match typ.get(..12) {
            Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
            _ => typ,
        };
        subtype.eq_ignore_ascii_case("at+jwt")
    }

    /// Opens the claims if `verify(signing input, signature in base64url)` says that the signature is right.
    ///
    /// # Errors
    /// [`TokenError::Signature`], [`TokenError::Claims`].
    pub fn verify(self, verify: impl FnOnce(&str, &str) -> bool) -> Result<Claims, TokenError> {
        if !verify(self.signing_input, self.signature) {
            return Err(TokenError::Signature);
        }
        serde_json::from_slice(&self.claims).map(Claims).map_err(|_| TokenError::Claims)
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
    /// The JSON text of a claim; `None` if it is absent or null.
    pub fn json(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.get()).filter(|json| *json != "null")
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
                true
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
        assert_eq!(unverified.verify(|_, _| false).err(), Some(TokenError::Signature));
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
