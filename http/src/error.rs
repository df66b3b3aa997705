//! What can go wrong while a request is read. (What a client meets is in `client::Error`.)
use std::{fmt, io};

use http::StatusCode;

use crate::h1::Refusal;
use crate::response::{IntoResponse, Response};

/// What can go wrong while a request is read.
///
/// A handler may return it: `async fn upload(mut request: Request) -> Result<Response, Error>` answers with
/// [`status`](Error::status).
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Refused(Refusal),
    Io(io::Error),
    /// The answer is out, or reading has failed before; the rest of the request's body went to nobody.
    Gone,
}

impl Error {
    pub(crate) fn gone() -> Error {
        Error { kind: Kind::Gone }
    }

    /// Whether the client broke a rule of the protocol or a limit.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused(_))
    }

    /// Whether the body was longer than allowed.
    #[must_use]
    pub fn is_body_too_large(&self) -> bool {
        matches!(self.kind, Kind::Refused(Refusal::BodyTooLarge))
    }

    /// Whether the client took too long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Refused(Refusal::Timeout))
    }

    /// Whether the server holds too much in memory at the moment ([`Limits::memory_bytes`](crate::Limits::memory_bytes)).
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        matches!(self.kind, Kind::Refused(Refusal::Memory))
    }

    /// Whether the connection broke.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self.kind, Kind::Io(_))
    }

    /// Whether the content went to nobody, because the request was answered, or reading it has failed, before.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.kind, Kind::Gone)
    }

    /// The rule that was broken, if it was the client's doing.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            Kind::Refused(why) => Some(why),
            Kind::Io(_) | Kind::Gone => None,
        }
    }

    /// The status code that tells the client.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match &self.kind {
            Kind::Refused(why) => why.status(),
            Kind::Io(_) => StatusCode::BAD_REQUEST, // nobody is there to read it
            Kind::Gone => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Refusal> for Error {
    fn from(why: Refusal) -> Error {
        Error { kind: Kind::Refused(why) }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::TimedOut => Refusal::Timeout.into(),
            _ => Error { kind: Kind::Io(error) },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Refused(_) => f.write_str("request refused"),
            Kind::Io(_) => f.write_str("connection broken"),
            Kind::Gone => {
                f.write_str("the content is gone: the request was answered, or reading it failed, before")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Refused(why) => Some(why),
            Kind::Io(error) => Some(error),
            Kind::Gone => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.status().into_response()
    }
}
