//! Why a task gave no value.

use std::any::Any;
use std::fmt;

/// Why awaiting a [`JoinHandle`](super::JoinHandle) gave no value: the task was aborted, or it panicked.
pub struct JoinError {
    /// None: cancelled. Boxed, so that every task's result has room for its value and one word.
    kind: Option<Box<Kind>>,
}

enum Kind {
    Panicked(Box<dyn Any + Send + 'static>),
    NotStarted(String),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        JoinError { kind: None }
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Self {
        JoinError { kind: Some(Box::new(Kind::Panicked(payload))) }
    }

    /// A blocking task for which no thread can be had; `why` ends the sentence.
    pub(crate) fn not_started(why: String) -> Self {
        JoinError { kind: Some(Box::new(Kind::NotStarted(why))) }
    }

    /// Whether the task was aborted, or its runtime ended first.
    pub fn is_cancelled(&self) -> bool {
        self.kind.is_none()
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind.as_deref(), Some(Kind::Panicked(_)))
    }

    /// Whether the task never began: its blocking pool found no thread, or the loop that it was sent to has ended.
    pub fn is_not_started(&self) -> bool {
        matches!(self.kind.as_deref(), Some(Kind::NotStarted(_)))
    }

    /// The value that the task panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// When the task did not panic; see [`is_panic`](Self::is_panic).
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.kind.map(|kind| *kind) {
            Some(Kind::Panicked(payload)) => payload,
            None => panic!("the task was cancelled, it did not panic"),
            Some(Kind::NotStarted(_)) => panic!("the task was not started, it did not panic"),
        }
    }

    fn message(&self) -> Option<&str> {
        let Some(Kind::Panicked(payload)) = self.kind.as_deref() else { return None };
        payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_deref(), self.message()) {
            (None, _) => f.write_str("the task was cancelled"),
            (Some(Kind::NotStarted(why)), _) => write!(f, "the task was not started: {why}"),
            (Some(Kind::Panicked(_)), Some(message)) => write!(f, "the task panicked: {message}"),
            (Some(Kind::Panicked(_)), None) => f.write_str("the task panicked"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        std::io::Error::other(error.to_string())
    }
}
