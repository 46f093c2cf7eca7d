//! JSON Web Signatures in compact serialization (RFC 7515): a token is taken apart here, and its claims cannot be read
//! before the caller has verified the signature.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Claims, Shown, TokenError};
use crate::Limits;

/// A token taken apart. Its claims are out of reach until the signature has been verified.
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
        // Also as null: what counts is that the member is there (RFC 7515, section 4.1.11).
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
    /// Takes a token apart and refuses tokens that no key can make valid.
    ///
    /// # Errors
    /// - [`TokenError::TooLong`]: longer than [`Limits::token_bytes_max`].
    /// - [`TokenError::Malformed`]: not three parts in base64url without padding.
    /// - [`TokenError::Header`]: the header is no JSON object with an `alg`, or `alg`, `typ` or `kid` is no string.
    /// - [`TokenError::Critical`]: the header has a `crit` member.
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

    /// The algorithm that the token names. It must never choose how to verify: compare it with the algorithm of the key.
    pub fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// The id of the key (`kid`), if the token has one: it chooses among trusted keys.
    pub fn key_id(&self) -> Option<&str> {
        (!self.header.kid.is_empty()).then_some(&self.header.kid)
    }

    /// The issuer that the token names (`iss`), not verified: it decides whose keys are tried and nothing else.
    pub fn claimed_issuer(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Claims {
            iss: Option<String>,
        }
        serde_json::from_slice::<Claims>(&self.claims).ok()?.iss
    }

    /// Refuses every token that is not an access token of RFC 9068.
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

    /// Whether `typ` marks an access token of RFC 9068, and so protocol 1.0.
    pub fn is_access_token(&self) -> bool {
        let typ = self.header.typ.as_str();
        let subtype = match typ.get(..12) {
            Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
            _ => typ,
        };
        subtype.eq_ignore_ascii_case("at+jwt")
    }

    /// Gives the claims if `verify` accepts the signature. Its arguments are the signing input and the signature in
    /// base64url.
    ///
    /// # Errors
    /// The error of `verify`; [`TokenError::Claims`] if the claims are no JSON object.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::token::Role;

    fn token(header: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn parse_error(token: &str) -> TokenError {
        Unverified::parse(token, &Limits::default()).expect_err(token)
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
        let most = "a".repeat(16 * 1024);
        assert_eq!(parse_error(&most), TokenError::Malformed);
        assert_eq!(parse_error(&(most + "a")), TokenError::TooLong { max: 16 * 1024 });
    }

    #[test]
    fn claims_stay_closed_when_the_signature_is_wrong() {
        let token = token(r#"{"alg":"HS256"}"#, "{}");
        let unverified = Unverified::parse(&token, &Limits::default()).expect("well-formed");
        let wrong = TokenError::Signature { role: Role::Publisher, issuer: Shown::new("me") };
        assert_eq!(unverified.verify(|_, _| Err(wrong.clone())).err(), Some(wrong));
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
    fn key_and_issuer_are_read_before_anything_is_verified() {
        let read = |header: &str, claims: &str| {
            let token = token(header, claims);
            let unverified = Unverified::parse(&token, &Limits::default()).expect("well-formed");
            (unverified.key_id().map(str::to_owned), unverified.claimed_issuer())
        };
        let text = |text: &str| Some(text.to_owned());
        let issuer = r#"{"iss":"https://a.example"}"#;
        assert_eq!(read(r#"{"alg":"HS256","kid":"k"}"#, issuer), (text("k"), text("https://a.example")));
        assert_eq!(read(r#"{"alg":"HS256","kid":""}"#, r#"{"iss":null}"#), (None, None));
        assert_eq!(read(r#"{"alg":"HS256"}"#, r#"{"iss":1}"#), (None, None));
        assert_eq!(parse_error(&token(r#"{"alg":"HS256","kid":1}"#, "{}")), TokenError::Header);
    }

    #[test]
    fn debug_shows_the_algorithm_and_no_claim() {
        let token = token(r#"{"alg":"HS256"}"#, r#"{"sub":"the-subject"}"#);
        let shown = format!("{:?}", Unverified::parse(&token, &Limits::default()).expect("well-formed"));
        assert_eq!(shown, "Unverified { algorithm: \"HS256\", .. }");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(?s)[A-Za-z0-9_.=-]{0,60}|.{0,30}") {
            let _ = Unverified::parse(&text, &Limits::default());
        }
    }
}
