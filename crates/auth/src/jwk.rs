//! JSON Web Keys and sets of them (RFC 7517, RFC 7518, section 6, and RFC 8037).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    Algorithm, Key, KeyError,
    public_key::{Curve, PublicKey},
};

/// A JWK Set, with its members as `T`.
#[derive(Deserialize)]
struct Set<T> {
    keys: Vec<T>,
}

/// One member of a set. Unknown members of the object are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// The members that hold a secret.
#[derive(Deserialize)]
struct Secrets {
    k: Option<IgnoredAny>,
    d: Option<IgnoredAny>,
    r#priv: Option<IgnoredAny>,
}

/// Members of a set that are read. Issuers have a handful of keys; a token is compared with each of them.
const SET_KEYS_MAX: usize = 100;

impl Key {
    /// The keys of a JWK Set that can verify signatures, in their order. Other members are left out, as RFC 7517, section 5
    /// asks; so are all after the first hundred. Shared secrets count only if `secrets`. Without algorithms: all that fit
    /// each key.
    ///
    /// # Errors
    /// [`KeyError::Set`] for a text that is no set, [`KeyError::SetUnusable`] if no key remains, and [`KeyError::Form`] for a
    /// shared secret that is another kind of key.
    pub fn parse_set(json: &[u8], algorithms: &[Algorithm], secrets: bool) -> Result<Vec<Self>, KeyError> {
        let set: Set<Value> = serde_json::from_slice(json).map_err(|_| KeyError::Set)?;
        let members = set.keys.into_iter().take(SET_KEYS_MAX);
        let jwks = members.filter_map(|member| serde_json::from_value::<Jwk>(member).ok());
        let keys = jwks.map(|jwk| match jwk.key(algorithms, secrets) {
            Err(error @ KeyError::Form(_)) => Err(error),
            usable => Ok(usable.ok()),
        });
        let usable: Vec<_> = keys.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        if usable.is_empty() { Err(KeyError::SetUnusable) } else { Ok(usable) }
    }

    /// Whether a JWK Set holds a shared secret or a private key, so that others must not be able to read its file.
    pub fn is_set_secret(json: &[u8]) -> bool {
        let is_secret = |key: &Secrets| key.k.is_some() || key.d.is_some() || key.r#priv.is_some();
        serde_json::from_slice::<Set<Secrets>>(json).is_ok_and(|set| set.keys.iter().any(is_secret))
    }
}

impl Jwk {
    /// The key.
    ///
    /// # Errors
    /// [`KeyError::Form`] for a shared secret that is another kind of key. Any other error only says that the key cannot
    /// verify signatures with one of the algorithms.
    fn key(self, algorithms: &[Algorithm], secrets: bool) -> Result<Key, KeyError> {
        if self.kty == "oct" {
            let secret = self.k.as_deref().filter(|_| secrets).and_then(decode);
            let secret = secret
                .map(Zeroizing::new)
                .filter(|secret| !secret.is_empty())
                .ok_or(KeyError::SetUnusable)?;
            // First, so that a secret of a wrong kind is an error whatever it is for.
            Key::from_secret(None, &secret, &[])?;
            let allowed = self.allowed(algorithms)?;
            return Key::from_secret(self.kid, &secret, &allowed);
        }
        let allowed = self.allowed(algorithms)?;
        let key = self.public_key().ok_or(KeyError::SetUnusable)?;
        Key::from_public_key(self.kid, &key, &allowed)
    }

    /// The algorithms that the key may be used with; empty: all that fit it.
    ///
    /// # Errors
    /// [`KeyError::SetUnusable`]: none, or the key is not for signatures.
    fn allowed(&self, algorithms: &[Algorithm]) -> Result<Vec<Algorithm>, KeyError> {
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|each| each == "verify"));
        let own = self.alg.as_deref().map(str::parse::<Algorithm>).transpose();
        match own {
            Ok(None) if is_for_signatures => Ok(algorithms.to_vec()),
            Ok(Some(own)) if is_for_signatures && (algorithms.is_empty() || algorithms.contains(&own)) => {
                Ok(vec![own])
            }
            _ => Err(KeyError::SetUnusable),
        }
    }

    fn public_key(&self) -> Option<PublicKey> {
        let member = |member: &Option<String>| member.as_deref().and_then(decode);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(PublicKey::from_rsa_components(&member(&self.n)?, &member(&self.e)?)),
            ("EC", Some(curve)) => {
                PublicKey::from_coordinates(Curve::parse(curve)?, &member(&self.x)?, &member(&self.y)?)
            }
            ("OKP", Some("Ed25519")) => PublicKey::from_ed25519(member(&self.x)?),
            _ => None,
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(bits: usize) -> String {
        let mut bytes = vec![0xFF; bits.div_ceil(8)];
        bytes[0] >>= (8 - bits % 8) % 8;
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa(n: &str, e: &str) -> Result<Key, KeyError> {
        let jwk: Jwk =
            serde_json::from_value(serde_json::json!({"kty": "RSA", "n": n, "e": e})).expect("a JWK");
        jwk.key(&[], false)
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits() {
        for (bits, expected) in [
            (512, Some(KeyError::Weak)),
            (2_047, Some(KeyError::Weak)),
            (2_048, None),
            (2_049, None),
            (8_192, None),
            (8_193, Some(KeyError::TooLong)),
        ] {
            assert_eq!(rsa(&modulus(bits), "AQAB").err(), expected, "{bits}");
        }
        // Some issuers write zeros in front.
        let padded = URL_SAFE_NO_PAD.encode([&[0, 0], &vec![0xFF; 256][..]].concat());
        assert!(rsa(&padded, "AAAAAQAB").is_ok());
    }

    /// With such an exponent, everybody can make signatures.
    #[test]
    fn rsa_keys_without_an_exponent_are_no_keys() {
        for exponent in ["", "AA", "AQ", "Ag", "!"] {
            assert!(rsa(&modulus(2_048), exponent).is_err(), "{exponent}");
        }
        for modulus in ["", "AA", "!"] {
            assert!(rsa(modulus, "AQAB").is_err(), "{modulus}");
        }
    }

    #[test]
    fn a_hundred_keys_of_a_set_are_read() {
        let key = r#"{"kty":"oct","k":"AQIDBAUGBwg"}"#;
        let set = |count| format!(r#"{{"keys":[{}]}}"#, vec![key; count].join(","));
        let count = |json: &str| Key::parse_set(json.as_bytes(), &[], true).expect("keys").len();
        assert_eq!(count(&set(SET_KEYS_MAX)), SET_KEYS_MAX);
        assert_eq!(count(&set(SET_KEYS_MAX + 1)), SET_KEYS_MAX);
    }

    #[test]
    fn a_key_is_used_for_what_it_is_meant_for() {
        let usable = |members: &str, algorithms: &[Algorithm]| {
            let json = format!(r#"{{"keys":[{{"kty":"oct","k":"AQIDBAUGBwg"{members}}}]}}"#);
            Key::parse_set(json.as_bytes(), algorithms, true).map(|keys| {
                Algorithm::ALL.into_iter().filter(|each| keys[0].allows(*each)).collect::<Vec<_>>()
            })
        };
        let (all, only) = (Algorithm::HMAC.to_vec(), vec![Algorithm::HS256]);
        assert_eq!(usable("", &[]), Ok(all.clone()));
        assert_eq!(usable(r#","use":"sig","key_ops":["sign","verify"]"#, &[]), Ok(all));
        assert_eq!(usable(r#","alg":"HS256""#, &[]), Ok(only.clone()));
        assert_eq!(usable(r#","alg":"HS256""#, &[Algorithm::HS512, Algorithm::HS256]), Ok(only.clone()));
        assert_eq!(usable("", &only), Ok(only.clone()));
        for (members, algorithms) in [
            (r#","use":"enc""#, &[][..]),
            (r#","key_ops":["sign"]"#, &[]),
            (r#","key_ops":[]"#, &[]),
            (r#","alg":"HS256""#, &[Algorithm::HS512]),
            (r#","alg":"RS256""#, &[]),
            (r#","alg":"A256GCM""#, &[]),
            ("", &[Algorithm::ES256]),
        ] {
            assert_eq!(usable(members, algorithms), Err(KeyError::SetUnusable), "{members} {algorithms:?}");
        }
    }

    /// A key that is not of its curve would be taken for one of another.
    #[test]
    fn coordinates_are_as_long_as_their_curve_asks_for() {
        let key = |curve: &str, x: usize, y: usize| {
            let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(vec![1; bytes]));
            let jwk = serde_json::json!({"kty": "EC", "crv": curve, "x": x, "y": y});
            serde_json::from_value::<Jwk>(jwk).expect("a JWK").public_key()
        };
        for (curve, bytes) in [("P-256", 32), ("P-384", 48), ("P-521", 66)] {
            assert!(key(curve, bytes, bytes).is_some(), "{curve}");
            for (x, y) in [(bytes - 1, bytes + 1), (bytes, bytes + 1), (bytes + 1, bytes), (bytes, 0)] {
                assert!(key(curve, x, y).is_none(), "{curve} {x} {y}");
            }
        }
        assert!(key("secp256k1", 32, 32).is_none());
        let okp = |curve: &str, bytes: usize| {
            let x = URL_SAFE_NO_PAD.encode(vec![1; bytes]);
            let jwk = serde_json::json!({"kty": "OKP", "crv": curve, "x": x});
            serde_json::from_value::<Jwk>(jwk).expect("a JWK").public_key()
        };
        assert!(okp("Ed25519", 32).is_some());
        assert!(okp("Ed25519", 31).is_none() && okp("Ed25519", 33).is_none() && okp("X25519", 32).is_none());
    }

    #[test]
    fn a_point_that_is_not_on_its_curve_is_no_key() {
        let point = PublicKey::from_coordinates(Curve::P256, &[1; 32], &[1; 32]).expect("the right length");
        assert_eq!(Key::from_public_key(None, &point, &[]).err(), Some(KeyError::Pem));
    }

    #[test]
    fn a_set_with_a_secret_is_known() {
        for member in [r#""k":"AQ""#, r#""d":"AQ""#, r#""priv":"AQ""#] {
            let json = format!(r#"{{"keys":[{{"kty":"EC"}},{{"kty":"oct",{member}}}]}}"#);
            assert!(Key::is_set_secret(json.as_bytes()), "{member}");
        }
        for json in [r#"{"keys":[{"kty":"EC","x":"AQ"}]}"#, r#"{"keys":[]}"#, "x", r#"{"k":1}"#] {
            assert!(!Key::is_set_secret(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn a_secret_of_another_kind_is_an_error_even_where_it_would_not_be_used() {
        let pem = URL_SAFE_NO_PAD.encode("-----BEGIN PUBLIC KEY-----");
        for members in ["", r#","use":"enc""#] {
            let json = format!(r#"{{"keys":[{{"kty":"oct","k":"{pem}"{members}}}]}}"#);
            assert!(
                matches!(Key::parse_set(json.as_bytes(), &[], true), Err(KeyError::Form(_))),
                "{members}"
            );
            assert_eq!(Key::parse_set(json.as_bytes(), &[], false).err(), Some(KeyError::SetUnusable));
        }
    }
}
