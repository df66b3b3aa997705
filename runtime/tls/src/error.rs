//! What can go wrong in TLS, in words that name the cure.

use std::{error, fmt, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why a handshake or a connection failed. Found inside an [`io::Error`] of kind `InvalidData`:
///
/// ```
/// fn is_certificate(error: &std::io::Error) -> bool {
///     let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<annulet_tls::TlsError>());
///     inner.is_some_and(|error| error.is_certificate())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TlsError(Error);

impl TlsError {
    pub(crate) fn new(error: Error) -> TlsError {
        TlsError(error)
    }

    /// The peer's certificate was refused, or it showed none where one was asked for.
    pub fn is_certificate(&self) -> bool {
        matches!(self.0, Error::InvalidCertificate(_) | Error::NoCertificatesPresented)
    }

    /// The peer refused us, and said so with an alert.
    pub fn is_refused_by_peer(&self) -> bool {
        matches!(self.0, Error::AlertReceived(_))
    }

    /// What came is no TLS at all.
    pub fn is_not_tls(&self) -> bool {
        matches!(
            self.0,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                    | InvalidMessage::UnknownProtocolVersion
                    | InvalidMessage::MessageTooLarge
            )
        )
    }

    fn write_certificate(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match error {
            CertificateError::UnknownIssuer => f.write_str(
                "the peer's certificate is signed by no known authority; if it is to be trusted, give its root with \
                 `root_pem` (or `client_roots` on a server)",
            ),
            CertificateError::NotValidForNameContext { expected, presented } => {
                // rustls gives them as `DnsName("localhost")` and `IpAddress(::1)`.
                let bare = |name: &String| match name.split_once('(') {
                    Some((_, name)) => name.trim_end_matches(')').trim_matches('"').to_owned(),
                    None => name.clone(),
                };
                let names = Vec::from_iter(presented.iter().map(bare));
                let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                write!(f, "the peer's certificate is not for {}, but for {names}", expected.to_str())
            }
            CertificateError::NotValidForName => {
                f.write_str("the peer's certificate is not for the name that was asked for")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                f.write_str("the peer's certificate has expired (or this machine's clock is wrong)")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                f.write_str("the peer's certificate is not valid yet (or this machine's clock is wrong)")
            }
            // What rustls has no name for is webpki's own error, which it shows by its name.
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => f.write_str(
                "the peer's certificate is that of an authority, which is none of a server or client; a self-signed one \
                 is made with `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`",
            ),
            other => write!(f, "the peer's certificate was refused: {other}"),
        }
    }

    fn write_alert(alert: AlertDescription, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match alert {
            AlertDescription::CertificateRequired => {
                "it asks for a client certificate; give one to the connector"
            }
            AlertDescription::UnknownCA => "it does not know the authority that signed our certificate",
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => "it does not accept our certificate",
            AlertDescription::CertificateExpired => "our certificate has expired",
            AlertDescription::NoApplicationProtocol => "it speaks none of our ALPN protocols",
            AlertDescription::UnrecognisedName => "it serves no such name",
            AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3",
            AlertDescription::HandshakeFailure => "no common cipher suite, or a certificate that it asks for",
            _ => return write!(f, "the peer ended TLS with the alert {alert:?}"),
        };
        write!(f, "the peer ended TLS with the alert {alert:?}: {why}")
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::InvalidCertificate(error) => Self::write_certificate(error, f),
            Error::NoCertificatesPresented => {
                f.write_str("the client showed no certificate, and this server requires one")
            }
            Error::AlertReceived(alert) => Self::write_alert(*alert, f),
            Error::NoApplicationProtocol => f.write_str("the peer speaks none of our ALPN protocols"),
            _ if self.is_not_tls() => {
                write!(f, "what the peer sent is not TLS ({}); does it speak without?", self.0)
            }
            other => fmt::Display::fmt(other, f),
        }
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// The connection ended without close_notify (RFC 8446 section 6.1).
pub(crate) fn truncated() -> io::Error {
    let why = "the connection ended without TLS close_notify: what was received may be cut off";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// A configuration that cannot be used.
pub(crate) fn invalid(why: impl Into<Box<dyn error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let check = |error: Error, words: &str| {
            let error = TlsError::new(error);
            assert!(error.to_string().contains(words), "{error}");
        };
        check(Error::InvalidCertificate(CertificateError::UnknownIssuer), "root_pem");
        check(Error::InvalidCertificate(CertificateError::Expired), "expired");
        check(Error::InvalidCertificate(CertificateError::NotValidYet), "not valid yet");
        check(Error::InvalidCertificate(CertificateError::Revoked), "refused");
        check(Error::NoCertificatesPresented, "requires one");
        check(Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate");
        check(Error::AlertReceived(AlertDescription::InternalError), "InternalError");
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "not TLS");
        check(Error::General("anything".into()), "anything");
    }
}
