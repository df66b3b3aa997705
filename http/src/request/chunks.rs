//! The content of a request as a stream.
use std::borrow::Borrow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Request;
use crate::Error;
use crate::body::Chunk;

/// A request's content as a stream; see [`Request::chunks`]. Ends after an error.
#[derive(Debug)]
pub struct Chunks<R> {
    pub(super) request: R,
    pub(super) is_done: bool,
}

impl<R: Borrow<Request>> Chunks<R> {
    /// The request, for its head and, at the end, its [trailers](Request::trailers).
    pub fn request(&self) -> &Request {
        self.request.borrow()
    }
}

impl<R: Borrow<Request> + Unpin> Stream for Chunks<R> {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let next = match &self.request.borrow().block().body {
            Some(body) => ready!(body.poll_chunk(cx)).transpose(),
            None => None,
        };
        self.is_done = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}
