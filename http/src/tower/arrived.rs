//! Requests of the `http` crate as ours: the head as bytes, the body as a source of chunks.
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Version, request};

use super::BoxError;
use crate::Error;
use crate::body::{Chunk, Piece, Source};
use crate::h1::Refusal;
use crate::h1::encode::push_field;
use crate::h1::outgoing::{Trailers, is_forbidden};
use crate::recycle::Buffer;

/// The head as HTTP/1 has it; `None` for CONNECT. Framing fields follow from the body, because in HTTP/2 there are none.
pub(super) fn head(parts: &request::Parts, body: &impl http_body::Body) -> Option<Vec<u8>> {
    if parts.method == Method::CONNECT {
        return None;
    }
    let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    let says_length = parts.headers.contains_key(CONTENT_LENGTH);
    // RFC 9112 section 6.1: no transfer coding in HTTP/1.0.
    let is_old = parts.version == Version::HTTP_10 && length.is_some();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = Vec::with_capacity(512);
    for part in [parts.method.as_str(), " ", target, if is_old { " HTTP/1.0\r\n" } else { " HTTP/1.1\r\n" }] {
        head.extend_from_slice(part.as_bytes());
    }
    // RFC 9113 section 8.3.1 and RFC 9112 section 3.2.2: what was :authority, or stood in the target, and no Host field beside it.
    let authority = parts.uri.authority();
    if let Some(authority) = authority {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        head.extend_from_slice(format!("host: {host}\r\n").as_bytes());
    }
    for (name, value) in &parts.headers {
        let is_told = authority.is_some() && name == HOST;
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && !is_told {
            push_field(&mut head, name, value);
        }
    }
    match length {
        Some(0) if !says_length => {}
        Some(length) => head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        None => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}

/// A body of somebody else's.
pub(super) struct Content<B> {
    /// Taken while it is polled, which runs its code. `None` at the end.
    body: Cell<Option<Pin<Box<B>>>>,
    /// Whether it came to an error: then there is no end that could be taken for one.
    has_failed: Cell<bool>,
    trailers: Cell<Trailers>,
    /// What may still come, in bytes.
    left: Cell<u64>,
}

impl<B> Content<B> {
    pub(super) fn new(body: B, bytes_max: u64) -> Content<B> {
        Content {
            body: Cell::new(Some(Box::pin(body))),
            has_failed: Cell::new(false),
            trailers: Cell::default(),
            left: Cell::new(bytes_max),
        }
    }
}

impl<B> Source for Content<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    fn poll_chunk(&self, _: u32, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let Some(mut body) = self.body.take() else {
            return Poll::Ready(if self.has_failed.get() { Err(Error::gone()) } else { Ok(None) });
        };
        let failed = |error: Error| {
            self.has_failed.set(true);
            Poll::Ready(Err(error))
        };
        loop {
            let Poll::Ready(next) = body.as_mut().poll_frame(cx) else {
                self.body.set(Some(body));
                return Poll::Pending;
            };
            let frame = match next {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return failed(std::io::Error::other(error).into()),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(mut data) => {
                    let bytes = data.copy_to_bytes(data.remaining());
                    let Some(left) = self.left.get().checked_sub(bytes.len() as u64) else {
                        return failed(Refusal::BodyTooLarge.into());
                    };
                    self.left.set(left);
                    // An empty frame says nothing.
                    if !bytes.is_empty() {
                        self.body.set(Some(body));
                        return Poll::Ready(Ok(Some(Chunk(Piece::Copied(Buffer::from(Vec::from(bytes)))))));
                    }
                }
                Err(frame) => {
                    if let Ok(fields) = frame.into_trailers() {
                        self.trailers.set(listed(fields));
                    }
                }
            }
        }
    }

    fn trailers(&self, _: u32) -> Trailers {
        let trailers = self.trailers.take();
        self.trailers.set(trailers.clone());
        trailers
    }

    fn hold(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }
}

fn listed(fields: http::HeaderMap) -> Trailers {
    let mut name = None;
    let named = fields.into_iter().filter_map(|(next, value)| {
        // A further value of the same field comes without its name.
        name = next.or(name.take());
        Some((name.clone()?, value))
    });
    // A handler is to see none of them behind a body that another layer has made.
    let named = named.filter(|(name, _)| !is_forbidden(name));
    named.collect()
}
