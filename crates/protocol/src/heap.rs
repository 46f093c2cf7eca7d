//! Estimates of the memory that values take on the heap, for the budget that all subscribers share.

/// Bytes of an allocation beside its content: the header of the allocator, and rounding.
pub(crate) const ALLOCATION_BYTES: usize = 24;

/// Bytes of a shared allocation beside its content: as above, and the two reference counts.
pub(crate) const SHARED_ALLOCATION_BYTES: usize = ALLOCATION_BYTES + 2 * size_of::<usize>();

/// Bytes that a text of this length takes on the heap. An empty text takes none.
pub(crate) fn text_bytes(length: usize) -> usize {
    if length == 0 { 0 } else { length + ALLOCATION_BYTES }
}
