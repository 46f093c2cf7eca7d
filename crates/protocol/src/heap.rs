//! Estimates of the memory that values take on the heap.

/// Bytes of an allocation beside its content: the allocator's header, and rounding.
pub(crate) const ALLOCATION_BYTES: usize = 24;

/// Bytes of a shared allocation beside its content: as above, and the two counts.
pub(crate) const SHARED_ALLOCATION_BYTES: usize = ALLOCATION_BYTES + 2 * size_of::<usize>();

/// Bytes that a text of this length takes. An empty text is not allocated.
pub(crate) fn text_bytes(length: usize) -> usize {
    if length == 0 { 0 } else { length + ALLOCATION_BYTES }
}
