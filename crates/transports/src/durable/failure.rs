//! Why the database refused a statement, and what that means.

use std::sync::Arc;

use petasos_hub::TransportError;
use rusqlite::{
    ErrorCode,
    ffi::{SQLITE_IOERR_NOMEM, SQLITE_IOERR_SHMSIZE},
};

/// Why the database refused a statement.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// There is no room; nothing was changed.
    Full(Arc<str>),
    /// Something that may be different next time; nothing was changed.
    Passing(Arc<str>),
    /// The file is damaged where it is read or written; nothing was changed.
    Damaged(Arc<str>),
    /// The index of ids is damaged where it is written; nothing was changed.
    Index(Arc<str>),
    /// What the disk holds is no longer known.
    Fatal(Arc<str>),
}

impl Failure {
    /// What was wrong.
    pub(super) fn reason(&self) -> &Arc<str> {
        let (Self::Full(reason)
        | Self::Passing(reason)
        | Self::Damaged(reason)
        | Self::Index(reason)
        | Self::Fatal(reason)) = self;
        reason
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string().into();
        match error.sqlite_error() {
            // The index in shared memory could not grow, before or after a commit that then did not count.
            Some(error) if error.extended_code == SQLITE_IOERR_SHMSIZE => Self::Full(text),
            Some(error) if error.extended_code == SQLITE_IOERR_NOMEM => Self::Passing(text),
            Some(error) => match error.code {
                ErrorCode::DiskFull => Self::Full(text),
                ErrorCode::DatabaseCorrupt => Self::Damaged(text),
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory => {
                    Self::Passing(text)
                }
                _ => Self::Fatal(text),
            },
            None => Self::Fatal(text),
        }
    }
}

impl From<&Failure> for TransportError {
    fn from(fault: &Failure) -> Self {
        match fault {
            Failure::Full(text) => Self::Full((&**text).into()),
            Failure::Passing(text) => Self::unavailable(&**text),
            Failure::Damaged(text) | Failure::Index(text) | Failure::Fatal(text) => {
                Self::Failed((&**text).into())
            }
        }
    }
}

/// Whether a part of the file cannot be read, so that other parts may be.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure
        ),
        // A value of another type than was written.
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}
