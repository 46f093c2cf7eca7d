//! The name of one member of a shard.

/// The name of one member of a shard. Its slot may be used again; the pair of slot and number is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemberKey {
    pub(crate) slot: u32,
    /// The number of the member among all that were ever admitted.
    pub(crate) number: u32,
}
