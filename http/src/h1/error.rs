//! Why a message is refused. One value for each rule, so that tests and logs can name the rule; what the peer sees is the
//! status code.
use std::fmt;

use http::StatusCode;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $text:literal;)*) => {
        /// The rule that a request, or an answer that a client reads, broke.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// The status code that tells the client.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Refusal::$name => StatusCode::$status,)* }
            }

            fn text(self) -> &'static str {
                match self { $(Refusal::$name => $text,)* }
            }
        }
    };
}

refusals! {
    /// The request line is not `method SP target SP version CRLF`.
    RequestLine => BAD_REQUEST, "malformed request line";
    /// The status line is not `version SP status-code SP reason CRLF`, or its version is not HTTP/1.
    StatusLine => BAD_GATEWAY, "malformed status line";
    /// A line ends in LF without CR, or a CR stands alone.
    LineEnd => BAD_REQUEST, "a line does not end in CRLF";
    /// A character that no request target may hold.
    Target => BAD_REQUEST, "malformed request target";
    /// The target is longer than [`Limits::target_bytes`](crate::Limits::target_bytes).
    TargetTooLong => URI_TOO_LONG, "request target too long";
    /// A field name is no token, or white space stands before its colon, or the line is folded.
    FieldName => BAD_REQUEST, "malformed header field name";
    /// A control character in a field value.
    FieldValue => BAD_REQUEST, "malformed header field value";
    /// A field line is longer than [`Limits::line_bytes`](crate::Limits::line_bytes).
    LineTooLong => REQUEST_HEADER_FIELDS_TOO_LARGE, "header field line too long";
    /// The head is longer than [`Limits::head_bytes`](crate::Limits::head_bytes).
    HeadTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "head too large";
    /// More field lines than [`Limits::headers`](crate::Limits::headers).
    TooManyFields => REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields";
    /// The connection ended in the middle of a head.
    HeadCut => BAD_REQUEST, "head cut short";
    /// Not HTTP/1.
    Version => HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1 are served";
    /// An HTTP/1.1 request without Host.
    HostMissing => BAD_REQUEST, "missing Host";
    /// More than one Host.
    HostRepeated => BAD_REQUEST, "more than one Host";
    /// A Host that is no host and port.
    HostMalformed => BAD_REQUEST, "malformed Host";
    /// A Content-Length that is not one decimal number.
    LengthMalformed => BAD_REQUEST, "malformed Content-Length";
    /// More than one Content-Length.
    LengthRepeated => BAD_REQUEST, "more than one Content-Length";
    /// Content-Length beside Transfer-Encoding.
    LengthAndCoding => BAD_REQUEST, "both Content-Length and Transfer-Encoding";
    /// A Transfer-Encoding that does not end in one `chunked`.
    CodingMalformed => BAD_REQUEST, "Transfer-Encoding does not end in chunked";
    /// Transfer-Encoding in an HTTP/1.0 message.
    CodingInOldVersion => BAD_REQUEST, "Transfer-Encoding in HTTP/1.0";
    /// A transfer coding other than chunked.
    CodingUnknown => NOT_IMPLEMENTED, "unknown transfer coding";
    /// A method that this server does not know, or CONNECT.
    MethodUnknown => NOT_IMPLEMENTED, "unknown method";
    /// An expectation other than `100-continue`.
    Expectation => EXPECTATION_FAILED, "unknown expectation";
    /// A chunk size line that is none.
    ChunkSize => BAD_REQUEST, "malformed chunk size";
    /// A chunk longer or shorter than its size says.
    ChunkEnd => BAD_REQUEST, "chunk data not followed by CRLF";
    /// A control character in a chunk extension, or too many bytes of them.
    ChunkExtension => BAD_REQUEST, "malformed or too long chunk extension";
    /// A malformed trailer field, or one that frames or routes a message.
    Trailer => BAD_REQUEST, "malformed or forbidden trailer field";
    /// The trailer section is longer than [`Limits::trailer_bytes`](crate::Limits::trailer_bytes).
    TrailerTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "trailer section too large";
    /// The connection ended in the middle of a body.
    BodyCut => BAD_REQUEST, "body cut short";
    /// The body is longer than [`Limits::body_bytes`](crate::Limits::body_bytes).
    BodyTooLarge => PAYLOAD_TOO_LARGE, "request body too large";
    /// The request did not arrive in time.
    Timeout => REQUEST_TIMEOUT, "request not complete in time";
    /// More connections than [`Limits::connections`](crate::Limits::connections).
    TooManyConnections => SERVICE_UNAVAILABLE, "too many connections";
    /// More connections of one address than [`Limits::connections_per_address`](crate::Limits::connections_per_address).
    TooManyFromAddress => TOO_MANY_REQUESTS, "too many connections from one address";
    /// The connection does not begin with a [PROXY header](crate::Server::with_proxy_protocol), or with a malformed one.
    ProxyHeader => BAD_REQUEST, "no valid PROXY header, which this server expects first";
    /// The connection is not from one of the proxies that [may send a PROXY header](crate::Server::with_proxy_protocol).
    ProxyUntrusted => FORBIDDEN, "this server takes connections from its proxies only, and that is none of their addresses";
    /// A PROXY header, to a server that expects none.
    ProxyUnexpected => BAD_REQUEST, "a PROXY header, which this server does not expect";
    /// HTTP without TLS, to a port that expects TLS.
    TlsMissing => BAD_REQUEST, "HTTP without TLS, to a port that expects TLS: use https://";
    /// No memory is left of [`Limits::memory_bytes`](crate::Limits::memory_bytes).
    Memory => SERVICE_UNAVAILABLE, "too much waits in memory";
    /// A `%` in the path that two hexadecimal digits do not follow, or a parameter that is not UTF-8.
    Escape => BAD_REQUEST, "malformed percent-encoding";
}

impl Refusal {
    /// What the peer is told beside the status. For those who run a proxy or choose a scheme, who would look for it long; a client learns
    /// nothing of other refusals.
    pub(crate) fn told(self) -> Option<&'static str> {
        match self {
            Refusal::ProxyHeader
            | Refusal::ProxyUntrusted
            | Refusal::ProxyUnexpected
            | Refusal::TlsMissing => Some(self.text()),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}
