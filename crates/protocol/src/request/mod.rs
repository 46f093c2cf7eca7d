//! Requests to publish and to subscribe, parsed into types that cannot be wrong.
//!
//! A body or a query is decoded by [`Form`]. [`publish`] and [`SubscribeRequest::parse`] decide what its fields mean.

mod cursor;
mod form;
mod parameters;
mod publish;
mod subscribe;

pub use self::{
    cursor::Cursor,
    form::{Form, Part},
    publish::publish,
    subscribe::SubscribeRequest,
};
