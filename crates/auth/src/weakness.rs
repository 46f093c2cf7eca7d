//! Weak shared secrets: published in documentation, or short.

use std::fmt;

/// Why others may know or guess a shared secret. Its text names the remedy and never the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// Documentation shows it as an example.
    Published,
    /// It has fewer bytes than its algorithm asks for (RFC 7518, section 3.2).
    Short {
        /// The bytes that the algorithm asks for.
        bytes_min: usize,
    },
}

impl Weakness {
    /// Examines a secret. `bytes_min`: the least that one of its algorithms asks for.
    pub(crate) fn find(secret: &[u8], bytes_min: usize) -> Option<Self> {
        let text = str::from_utf8(secret).unwrap_or_default();
        let bare = text.trim().trim_matches(['"', '\'']);
        if EXAMPLES.iter().any(|(example, _)| example.eq_ignore_ascii_case(bare)) || secret == RFC_7515 {
            return Some(Self::Published);
        }
        (secret.len() < bytes_min).then_some(Self::Short { bytes_min })
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => f.write_str(
                "the secret is an example from public documentation, so everybody can sign tokens with it: make one of \
                 your own, such as with \"openssl rand -hex 32\"",
            ),
            Self::Short { bytes_min } => write!(
                f,
                "the secret is shorter than {bytes_min} bytes and can be guessed: use a longer one in production, such \
                 as from \"openssl rand -hex {bytes_min}\""
            ),
        }
    }
}

/// Secrets that people copy, each with its source. Compared without regard to case, and to white space and quotes
/// around.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "!ChangeThisMercureHubJWTSecretKey!",
        "the reference hub, Symfony and API Platform: compose files and .env",
    ),
    ("!ChangeMe!", "the reference hub and API Platform, before"),
    ("ChangeMe", "the same without its marks"),
    ("change-me", "many .env.example files"),
    ("change_me", "many .env.example files"),
    ("changethis", "the project template of FastAPI"),
    ("averysecretkey", "examples of Flask and of JWT libraries"),
    ("myJWTKey", "the reference hub's first documentation"),
    ("your-256-bit-secret", "jwt.io, until 2024"),
    ("your-384-bit-secret", "jwt.io, until 2024"),
    ("your-512-bit-secret", "jwt.io, until 2024"),
    ("a-string-secret-at-least-256-bits-long", "jwt.io"),
    ("a-valid-string-secret-that-is-at-least-384-bits-long", "jwt.io"),
    ("a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long", "jwt.io"),
    (
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "RFC 7515 and 7517",
    ),
    ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "FastAPI: tutorial of JWT"),
    ("192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf", "Flask: SECRET_KEY"),
    ("_5#y2L\"F4Q8z\n\\xec]/", "Flask: sessions, as it is written"),
    ("dev", "Flask: tutorial"),
    ("secret", "PyJWT; the README of flask-mercure-sse 0.4"),
    ("my-secret", "PyJWT and others"),
    ("mysecret", "PyJWT and others"),
    ("super-secret", "Flask-JWT-Extended"),
    ("super secret key", "answers on sessions in Flask"),
    ("secret-key", "many .env.example files"),
    ("secret_key", "many .env.example files"),
    ("your-secret-key", "many .env.example files"),
    ("your-secret-key-here", "many .env.example files"),
    ("your_secret_key", "many .env.example files"),
    ("your-secret", "many .env.example files"),
    ("password", "every list of guessed passwords"),
    ("test", "every list of guessed passwords"),
    ("at least 32 random bytes, please", "docs/flask.md"),
    ("a shared secret of at least 32 bytes", "the documentation of petasos-server"),
];

/// The bytes of the key in RFC 7515, appendix A.1, and RFC 7517, appendix A.3.
const RFC_7515: &[u8] = &[
    0x03, 0x23, 0x35, 0x4B, 0x2B, 0x0F, 0xA5, 0xBC, 0x83, 0x7E, 0x06, 0x65, 0x77, 0x7B, 0xA6, 0x8F, 0x5A,
    0xB3, 0x28, 0xE6, 0xF0, 0x54, 0xC9, 0x28, 0xA9, 0x0F, 0x84, 0xB2, 0xD2, 0x50, 0x2E, 0xBF, 0xD3, 0xFB,
    0x5A, 0x92, 0xD2, 0x06, 0x47, 0xEF, 0x96, 0x8A, 0xB4, 0xC3, 0x77, 0x62, 0x3D, 0x22, 0x3D, 0x2E, 0x21,
    0x72, 0x05, 0x2E, 0x4F, 0x08, 0xC0, 0xCD, 0x9A, 0xF5, 0x67, 0xD0, 0x80, 0xA3,
];

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn examples_are_known_however_they_are_copied() {
        for (example, _) in EXAMPLES {
            assert_eq!(Weakness::find(example.as_bytes(), 32), Some(Weakness::Published), "{example}");
        }
        for copied in ["'!ChangeMe!'", " SECRET\n", "Dev"] {
            assert_eq!(Weakness::find(copied.as_bytes(), 32), Some(Weakness::Published), "{copied}");
        }
        let text = EXAMPLES.iter().find(|(_, origin)| *origin == "RFC 7515 and 7517").expect("there").0;
        assert_eq!(URL_SAFE_NO_PAD.decode(text).expect("base64url"), RFC_7515);
        assert_eq!(Weakness::find(RFC_7515, 32), Some(Weakness::Published));
    }

    #[test]
    fn a_secret_is_as_long_as_its_algorithm_asks_for() {
        assert_eq!(Weakness::find(&[7; 31], 32), Some(Weakness::Short { bytes_min: 32 }));
        assert_eq!(Weakness::find(&[7; 32], 32), None);
        assert_eq!(Weakness::find(&[7; 63], 64), Some(Weakness::Short { bytes_min: 64 }));
        assert_eq!(Weakness::find(&[7; 64], 64), None);
        assert!(Weakness::Short { bytes_min: 48 }.to_string().contains("shorter than 48 bytes"));
    }
}
