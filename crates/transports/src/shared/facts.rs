//! The answer to facts that are recorded in several chunks. A store records each chunk whole or not at all.

use petasos_hub::{TransportError, registry::Lease};

/// The answers to the chunks so far.
#[derive(Default)]
pub(crate) struct Chunks {
    is_recorded: bool,
}

impl Chunks {
    /// Adds the answer to the next chunk. True: the node has no lease, and nothing was recorded.
    ///
    /// # Errors
    /// The lease ended after a part was recorded: [`Lease::Ended`] would say that nothing was. The facts can be given
    /// again.
    pub(crate) fn has_ended(&mut self, lease: Lease) -> Result<bool, TransportError> {
        match lease {
            Lease::Kept => {
                self.is_recorded = true;
                Ok(false)
            }
            Lease::Ended if !self.is_recorded => Ok(true),
            Lease::Ended => Err(TransportError::unavailable(
                "the node's lease ended after a part of its facts was recorded",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ends_after_a_part_was_recorded_is_an_error() {
        let mut chunks = Chunks::default();
        assert!(matches!(chunks.has_ended(Lease::Ended), Ok(true)));
        assert!(matches!(chunks.has_ended(Lease::Kept), Ok(false)));
        assert!(matches!(chunks.has_ended(Lease::Ended), Err(TransportError::Unavailable(_))));
    }
}
