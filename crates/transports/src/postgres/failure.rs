//! What PostgreSQL's errors mean for a publisher, for the opening of the log, and for the connection.

use std::{error::Error, fmt::Write, time::Duration};

use petasos_hub::TransportError;
use tokio_postgres::error::SqlState;

use crate::OpenError;

/// Why a connection could not do what it was asked. Holds no statement, parameter or password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    /// The server's code; `None`: it did not answer.
    code: Option<SqlState>,
    text: String,
    /// Whether nothing but an operator helps.
    is_final: bool,
}

impl Failure {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), is_final: false }
    }

    /// What an operator has to change first; the text says what.
    pub(super) fn for_operator(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), is_final: true }
    }

    pub(super) fn silent(after: Duration) -> Self {
        Self::new(format!("the server does not answer within {}", humantime::format_duration(after)))
    }

    pub(super) fn code(&self) -> Option<&SqlState> {
        self.code.as_ref()
    }

    /// Whether the connection can still be used: the statement failed for a reason of its own.
    pub(super) fn leaves_connection_usable(&self) -> bool {
        let known = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::DISK_FULL,
            SqlState::OUT_OF_MEMORY,
            // The queue of notifications is full: a session does not read it.
            SqlState::PROGRAM_LIMIT_EXCEEDED,
        ];
        self.code.as_ref().is_some_and(|code| known.contains(code))
    }

    /// Whether the server had no room.
    pub(super) fn is_full(&self) -> bool {
        let known = [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY];
        self.code.as_ref().is_some_and(|code| known.contains(code))
    }

    /// Whether the statement had no effect and can be given again at once.
    pub(super) fn is_conflict(&self) -> bool {
        let known = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        self.code.as_ref().is_some_and(|code| known.contains(code))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            // Not its details, which may quote what was stored.
            let text = format!("{} (SQLSTATE {})", error.message(), error.code().code());
            return Self { code: Some(error.code().clone()), text, is_final: false };
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        Self::new(text)
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        let Failure { code, text, is_final } = &failure;
        let advice = match code.as_ref().map(SqlState::code) {
            Some("28P01" | "28000") => "correct the user or the password in the URL, or pg_hba.conf",
            Some("3D000") => "create it with createdb, or correct the URL",
            Some(code) if ["42", "22", "0A"].iter().any(|class| code.starts_with(class)) => "",
            _ if *is_final => "",
            _ => return Self::Transport(failure.into()),
        };
        match advice {
            "" => Self::Refused(format!("PostgreSQL cannot be used: {text}")),
            advice => Self::Refused(format!("PostgreSQL cannot be used: {text}: {advice}")),
        }
    }
}

impl From<Failure> for TransportError {
    fn from(failure: Failure) -> Self {
        match failure.is_full() {
            true => Self::Full(failure.into()),
            false => Self::unavailable(failure),
        }
    }
}
