//! One matcher of one member, and the list in which all members with the same matcher stand.

use slab::Slab;

/// The registrations of one matcher, in no order.
pub(crate) type Bucket = Vec<RegistrationKey>;

/// What a member keeps to undo a registration.
pub(crate) type RegistrationKey = u32;

/// One matcher of one member.
pub(crate) struct Registration {
    /// The member's slot in its shard.
    pub(crate) member: u32,
    /// The registration's index in its bucket, so that undoing it costs the same however many stay.
    pub(crate) index: u32,
}

/// Removes the registration at `index` from its bucket. The registration that moves there gets that index.
pub(crate) fn remove(bucket: &mut Bucket, index: u32, registrations: &mut Slab<Registration>) {
    bucket.swap_remove(index as usize);
    if let Some(moved) = bucket.get(index as usize) {
        registrations[*moved as usize].index = index;
    }
}
