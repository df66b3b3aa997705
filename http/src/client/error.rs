//! What can go wrong between a request and its answer.
use std::fmt;
use std::io;

use http::StatusCode;

use super::url::Url;
use crate::h1::Refusal;

type Cause = Box<dyn std::error::Error + 'static>;

/// Why there is no answer, or not all of it.
///
/// As text it names the host, what to do about it, and the causes, the nearest first. The cause is its
/// [`source`](std::error::Error::source) too: who prints a chain prints it twice.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     // Nobody listens there.
///     let error = annulet_http::get("http://127.0.0.1:1/").await.unwrap_err();
///     assert!(error.is_connect() && !error.is_timeout());
///     assert!(error.to_string().starts_with("cannot connect (http://127.0.0.1:1): "), "{error}");
/// });
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    /// Scheme, host and port. No path and no query: they may hold secrets, and errors end up in logs.
    origin: Option<String>,
    cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request was never one.
    Request,
    Connect,
    /// There is a connection, and no TLS on it.
    Tls,
    Timeout(Phase),
    /// Too many, or one that cannot be followed.
    Redirect,
    /// The answer broke a rule of the protocol or a limit.
    Refused(Refusal),
    /// What the answer is not allowed to be: 101 unasked or to another protocol, interim answers without an end.
    Unexpected,
    /// The connection ended before the head of an answer.
    Closed,
    Io,
    /// The content of the answer is longer than allowed.
    TooLarge,
    /// The content of the answer is not what it was read as.
    Decode,
    /// The content of the request could not be made, or was not as long as announced.
    Upload,
    Status(StatusCode),
    Full,
}

/// Which time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Head,
    Total,
}

impl Error {
    pub(super) fn new(kind: Kind) -> Error {
        Error { kind, origin: None, cause: None }
    }

    pub(super) fn request(message: impl Into<Cause>) -> Error {
        Error::new(Kind::Request).because(message)
    }

    pub(super) fn refused(why: Refusal) -> Error {
        Error::new(Kind::Refused(why)).because(why)
    }

    pub(super) fn because(mut self, cause: impl Into<Cause>) -> Error {
        self.cause = Some(cause.into());
        self
    }

    pub(super) fn at(mut self, url: &Url) -> Error {
        self.origin.get_or_insert_with(|| url.origin());
        self
    }

    /// Whether the request itself was wrong: its URL, a header field, its content's encoding. Nothing was sent.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.kind == Kind::Request
    }

    /// Whether no connection could be made: no such name, nobody listens, no TLS, no time left for it.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self.kind, Kind::Connect | Kind::Tls | Kind::Timeout(Phase::Connect))
    }

    /// Whether TLS failed before the request was sent: a certificate that is not believed, for example.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.kind == Kind::Tls
    }

    /// Whether one of the three times was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Timeout(_))
    }

    /// Whether there were too many redirections, or one that cannot be followed.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        self.kind == Kind::Redirect
    }

    /// Whether the answer broke a rule of the protocol, or a limit on heads and framing.
    #[must_use]
    pub fn is_protocol(&self) -> bool {
        matches!(self.kind, Kind::Refused(_) | Kind::Unexpected)
    }

    /// Whether it is about content: cut short, too long, not JSON, not UTF-8, or a request's that could not be made.
    #[must_use]
    pub fn is_body(&self) -> bool {
        let is_cut = self.kind == Kind::Refused(Refusal::BodyCut);
        is_cut || matches!(self.kind, Kind::TooLarge | Kind::Decode | Kind::Upload)
    }

    /// Whether it is a status code that [`error_for_status`](super::Response::error_for_status) found.
    #[must_use]
    pub fn is_status(&self) -> bool {
        matches!(self.kind, Kind::Status(_))
    }

    /// Whether the connection broke, or ended before an answer began.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self.kind, Kind::Io | Kind::Closed)
    }

    /// Whether too many requests wait for a connection already ([`ClientBuilder::waiting`](super::ClientBuilder::waiting)).
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.kind == Kind::Full
    }

    /// The status code that [`error_for_status`](super::Response::error_for_status) found.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self.kind {
            Kind::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The rule or limit that the answer broke.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            Kind::Refused(why) => Some(why),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Request => "the request is wrong",
            Kind::Connect => "cannot connect",
            Kind::Tls => "cannot connect safely",
            Kind::Timeout(Phase::Connect) => {
                "no connection in time; is the host up? connect_timeout gives it more"
            }
            Kind::Timeout(Phase::Head) => "no answer in time; head_timeout gives it more",
            Kind::Timeout(Phase::Total) => "not done in time; timeout gives it more",
            Kind::Redirect => "the redirection is not followed",
            Kind::Refused(_) => "the answer is refused and its connection closed",
            Kind::Unexpected => "the answer is none that was asked for",
            Kind::Closed => "the server closed the connection without an answer; it may have acted on the request",
            Kind::Io => "the connection broke",
            Kind::TooLarge => "the content is too long to be collected; read it with chunk, or raise Limits::body_bytes",
            Kind::Decode => "the content is not what it was read as",
            Kind::Upload => "the content of the request could not be sent",
            Kind::Status(_) => "the server answers with an error",
            Kind::Full => "too many requests wait for a connection; ask for less at a time, or raise connections_per_host",
        })?;
        if let Kind::Status(status) = self.kind {
            write!(f, ": {status}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        let mut cause = std::error::Error::source(self);
        let mut said = String::new();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some tell their own causes already, as this one does.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind {
            Kind::Request => io::ErrorKind::InvalidInput,
            Kind::Timeout(_) => io::ErrorKind::TimedOut,
            Kind::Refused(_) | Kind::Decode => io::ErrorKind::InvalidData,
            Kind::Closed => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        };
        // The causes may be of one thread only: their text goes along.
        io::Error::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told() {
        let check = |error: Error, expected: &str| {
            assert_eq!(error.to_string(), expected);
            assert_eq!(io::Error::from(error).to_string(), expected);
        };
        check(
            Error::new(Kind::Closed),
            "the server closed the connection without an answer; it may have acted on the request",
        );
        check(Error::request("no host in it"), "the request is wrong: no host in it");
        let url = Url::parse("http://a/secret?of=me").unwrap();
        check(
            Error::new(Kind::Connect).because(io::Error::other("nobody")).at(&url),
            "cannot connect (http://a:80): nobody",
        );
        let cause = Error::new(Kind::Io).because("the reason");
        check(
            Error::new(Kind::Upload).because(cause),
            "the content of the request could not be sent: the connection broke: the reason",
        );
        // annulet-tls puts rustls' words in the middle of its own.
        check(
            Error::new(Kind::Tls).because(Explained("odd bytes".into())),
            "cannot connect safely: what came (odd bytes) is no TLS",
        );
    }

    #[derive(Debug)]
    struct Explained(Cause);

    impl fmt::Display for Explained {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "what came ({}) is no TLS", self.0)
        }
    }

    impl std::error::Error for Explained {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }
}
