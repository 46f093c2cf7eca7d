//! The compression of heads (RFC 7541).
//!
//! What a peer sends is read with all that the compression has: a [`decoder`], its [`dynamic_table`] of earlier fields and the
//! [`huffman`] code. What the hub sends refers to the [`static_table`] alone ([`encoder`]), so that no connection holds a table
//! for it.

pub(super) mod decoder;
pub(super) mod dynamic_table;
pub(super) mod encoder;
mod huffman;
mod static_table;
