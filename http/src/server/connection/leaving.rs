//! Content that leaves behind its head, as fast as the client takes it.
use std::task::{Context, Poll};

use bytes::Bytes;

use super::sending::Unsent;
use super::written::Patience;
use super::{ANSWER_BYTES_MAX, Connection, End};
use crate::h1::outgoing::Outgoing;
use crate::service::{Leaving, PIECE_BYTES_MAX, Source as Content};
use crate::stream::{Data, Failed};
use crate::transport::Transport;

/// Content in memory of its own that is as long as this leaves without a copy. In bytes.
const OWNED_BYTES_MIN: usize = 16 * 1024;

/// Longer content is waited for until it has nearly left: it counts among what the connection holds. In bytes.
const OWNED_BYTES_FREE: usize = 128 * 1024;

impl<S: Transport> Connection<S> {
    /// Writes the content of an answer as the client takes it. `None` if the connection persists.
    pub(super) async fn leave_in_pieces(&self, mut leaving: Box<Leaving>) -> Option<End> {
        let Leaving { source, outgoing, .. } = &mut *leaving;
        if S::SENDS_FILES
            && let Content::Pieces(pieces) = source
            && let Some((file, range)) = pieces.single()
        {
            match self.send_file(file, range, outgoing).await {
                Ok(()) => return self.finish_pieces(*leaving),
                Err(Unsent::Unsupported) => {}
                Err(Unsent::Cut) => return Some(End::Finished),
                Err(Unsent::Gone) => return Some(End::Gone),
            }
        }
        // The head is out: this cannot be refused, but what others want can.
        // What waits in the send buffer is counted there.
        let beside = PIECE_BYTES_MAX + leaving.source.held();
        self.shared.hold_anyway(self.rest.borrow().len() + beside);
        if let Some(reading) = &mut *self.reading.borrow_mut() {
            reading.beside = beside;
        }
        let (mut watch, mut patience) = (None, Patience::new());
        let is_whole = matches!(leaving.source, Content::Whole(_));
        while !leaving.outgoing.is_broken() {
            let next = self.unless_gone(&mut watch, &mut patience, |cx| leaving.poll_piece(cx)).await;
            let mut piece = match next {
                Some(Some(Ok(piece))) => piece,
                Some(None) => return self.finish_pieces(*leaving),
                // Half an answer; the end says that it is one.
                Some(Some(Err(Failed))) => return Some(End::Finished),
                None => return Some(End::Gone),
            };
            while !piece.rest().is_empty() {
                // The first wait is the rule where content comes faster than the client takes it.
                if self.stream.send_buffered() >= ANSWER_BYTES_MAX
                    && !self.wait_written(S::poll_write_ready).await
                {
                    return Some(End::Gone);
                }
                if S::TAKES_OWNED
                    && piece.rest().len() >= OWNED_BYTES_MIN
                    && let Some(bytes) = piece.take_owned()
                {
                    let zero_copy = is_whole && bytes.len() >= self.shared.zero_copy_bytes_min;
                    if !self.leave_owned(&mut leaving.outgoing, bytes, zero_copy).await {
                        return Some(End::Gone);
                    }
                    break;
                }
                let count = piece.rest().len().min(PIECE_BYTES_MAX);
                self.stream.with_send_buffer(|out| leaving.outgoing.push(out, &piece.rest()[..count]));
                piece.advance(count);
                self.note(|entry| entry.bytes += count as u64);
            }
        }
        Some(End::Finished)
    }

    /// Lets a large piece leave without a copy. `false` if the client does not take what is before it.
    async fn leave_owned(&self, outgoing: &mut Outgoing, mut bytes: Bytes, zero_copy: bool) -> bool {
        let len = self.stream.with_send_buffer(|out| outgoing.begin_piece(out, bytes.len()));
        bytes.truncate(len);
        while let Err(refused) = self.stream.try_send_bytes(bytes, zero_copy) {
            bytes = refused;
            if !self.wait_written(S::poll_flush).await {
                return false;
            }
        }
        self.stream.with_send_buffer(|out| outgoing.end_piece(out));
        self.note(|entry| entry.bytes += len as u64);
        if zero_copy {
            // It is in memory, and counts there, until the client has it.
            return self.wait_written(S::poll_released).await;
        }
        // What it takes in memory is the connection's as long as it waits.
        len <= OWNED_BYTES_FREE || self.wait_written(S::poll_write_ready).await
    }

    pub(super) fn finish_pieces(&self, leaving: Leaving) -> Option<End> {
        let Leaving { source, outgoing, persists } = leaving;
        let trailers = match source {
            Content::Streamed(mut streamed) => streamed.take_trailers(),
            Content::Whole(_) | Content::Pieces(_) => Vec::new(),
        };
        let is_whole = self.stream.with_send_buffer(|out| outgoing.finish(out, &trailers));
        (!persists || !is_whole).then_some(End::Finished)
    }
}

impl Content {
    /// What it keeps in memory, in bytes.
    fn held(&self) -> usize {
        match self {
            Content::Whole(data) => data.rest().len(),
            Content::Streamed(_) | Content::Pieces(_) => 0,
        }
    }
}

impl Leaving {
    /// The next piece of the content, `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Data, Failed>>> {
        match &mut self.source {
            Content::Streamed(streamed) => streamed.poll_piece(cx),
            Content::Pieces(pieces) => pieces.poll_piece(cx),
            Content::Whole(data) if data.rest().is_empty() => Poll::Ready(None),
            Content::Whole(data) => Poll::Ready(Some(Ok(std::mem::replace(data, Data::from(""))))),
        }
    }
}
