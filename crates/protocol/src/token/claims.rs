//! The claims of a verified token, and the checks of them that need no key: issuer, audience and dates.

use std::{collections::HashMap, fmt};

use serde_json::value::RawValue;

use super::{Shown, TokenError};

/// The claims of a token whose signature has been verified.
///
/// The text of each claim is kept as it was signed, so that a payload reaches subscribers unchanged.
pub struct Claims(HashMap<String, Box<RawValue>>);

impl Claims {
    /// Reads the JSON text of an object. The caller vouches for its origin.
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

    /// Checks the parties of a 1.0 access token (section "Token Validation"): `iss` is the issuer whose key has verified
    /// the token, and `aud` holds `resource`, this hub.
    ///
    /// # Errors
    /// - [`TokenError::IssuerMissing`]: there is no `iss`.
    /// - [`TokenError::IssuerUnknown`]: `iss` is another issuer.
    /// - [`TokenError::Audience`]: there is no `aud`, or it does not hold `resource`.
    /// - [`TokenError::Claim`]: one of the two is malformed.
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

    /// Checks `exp` and `nbf` (RFC 7519, sections 4.1.4 and 4.1.5) without leeway, and returns `exp`. Both, and `now`, are
    /// in seconds since the Unix epoch.
    ///
    /// # Errors
    /// - [`TokenError::Expired`]: `now` is `exp` or later.
    /// - [`TokenError::NotYetValid`]: `now` is before `nbf`.
    /// - [`TokenError::Claim`]: one of the two is no number.
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
    use serde_json::{Value, json};

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims(serde_json::from_str(&value.to_string()).expect("an object"))
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
    fn dates_are_numbers_and_checked_without_leeway() {
        assert_eq!(claims(&json!({})).check_lifetime(5.0), Ok(None));
        assert_eq!(claims(&json!({"exp": 5})).check_lifetime(5.0), Err(TokenError::Expired));
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

    #[test]
    fn absent_and_null_claims_are_the_same() {
        let claims = claims(&json!({"a": null, "b": 1}));
        assert_eq!((claims.json("a"), claims.json("b"), claims.json("c")), (None, Some("1"), None));
        assert_eq!(format!("{claims:?}"), "Claims(..)", "no claim is shown");
    }
}
