//! Our answers as those of the `http` crate.
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};

use crate::h1::encode::is_ours;
use crate::h1::outgoing::is_forbidden;
use crate::response::{Response, Special};
use crate::stream::Streamed;

/// The content of an answer: in memory, or made while it leaves.
pub struct AnswerBody(Kind);

enum Kind {
    Whole(Bytes),
    /// What is still announced, if a length was.
    Streamed(Box<Streamed>, Option<u64>),
    /// Behind an answer to HEAD, whose length is that of a GET.
    Nothing,
}

/// As the encoder does it for our own server; who writes the message adds framing and date.
pub(super) fn converted(mut answer: Response, is_head: bool, version: Version) -> http::Response<AnswerBody> {
    let (content, special) = answer.take_body();
    let (mut status, mut kind) = match special {
        Some(Special::Interim(_)) => unreachable!("who calls the handler waits for what is behind"),
        // The socket is not ours to give.
        Some(Special::Upgrade(_)) => (StatusCode::NOT_IMPLEMENTED, Kind::Whole(Bytes::new())),
        Some(Special::Streamed(streamed)) => {
            let length = streamed.length;
            (answer.status(), Kind::Streamed(Box::new(streamed), length))
        }
        Some(Special::Pieces(pieces)) => {
            let length = pieces.len();
            (answer.status(), Kind::Streamed(Box::new(Streamed::new(*pieces)), Some(length)))
        }
        None => (answer.status(), Kind::Whole(content.into_bytes())),
    };
    if status.is_informational() {
        status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    let mut converted = http::Response::new(());
    *converted.status_mut() = status;
    let fields = converted.headers_mut();
    for (name, value) in answer.headers().iter().filter(|(name, _)| !is_ours(name)) {
        fields.append(name.clone(), value.clone());
    }
    let has_content =
        ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    if let Some(content_type) = answer.content_type.filter(|_| has_content) {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type.text()));
    }
    let length = match &kind {
        Kind::Whole(bytes) => Some(bytes.len() as u64),
        Kind::Streamed(_, length) => *length,
        Kind::Nothing => None,
    };
    if !has_content {
        kind = Kind::Whole(Bytes::new());
    } else if is_head {
        fields.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
        kind = Kind::Nothing;
    }
    // RFC 9113 section 8.2.2: not in HTTP/2.
    if answer.closes && version <= Version::HTTP_11 {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    converted.map(|()| AnswerBody(kind))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (streamed, left) = match &mut self.0 {
            Kind::Nothing => return Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Kind::Streamed(streamed, left) => (streamed, left),
        };
        let next = ready!(streamed.poll_piece(cx));
        let frame = match next {
            Some(Ok(piece)) => {
                let bytes = piece.into_bytes();
                match left.map(|left| left.checked_sub(bytes.len() as u64)) {
                    None => Some(Ok(Frame::data(bytes))),
                    Some(Some(less)) => {
                        *left = Some(less);
                        Some(Ok(Frame::data(bytes)))
                    }
                    Some(None) => Some(Err(io::Error::other("more content than with_length announced"))),
                }
            }
            Some(Err(_)) => Some(Err(io::Error::other("the content could not be made"))),
            None if left.is_some_and(|left| left > 0) => {
                Some(Err(io::Error::other("less content than with_length announced")))
            }
            None => {
                let trailers = streamed.take_trailers();
                let sent: http::HeaderMap =
                    trailers.into_iter().filter(|(name, _)| !is_forbidden(name)).collect();
                (!sent.is_empty()).then(|| Ok(Frame::trailers(sent)))
            }
        };
        if !frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data)) {
            self.0 = Kind::Nothing;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Nothing => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Streamed(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Streamed(_, left) => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
