//! What a verified token says.

use std::{fmt, sync::Arc};

use petasos_protocol::{Dialect, token::Grants};

use crate::Basis;

/// What a verified token says.
#[derive(Clone)]
pub struct Verified {
    /// What the bearer may do. All requests with this token share it while the verifier remembers the token.
    pub grants: Arc<Grants>,
    /// When the token expires, in seconds since the Unix epoch. `None`: never, which only 0.x tokens may.
    pub expiry: Option<f64>,
    /// The version of the protocol that the token is written for.
    pub dialect: Dialect,
    /// What the token was accepted by.
    pub basis: Basis,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("grants", &self.grants)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}
