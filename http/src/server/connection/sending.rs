//! The content of an answer that is a file: it leaves without passing through memory of ours.
use std::io;
use std::ops::Range;
use std::pin::pin;

use annulet::fs::File;

use super::Connection;
use super::written::Patience;
use crate::h1::outgoing::Outgoing;
use crate::transport::Transport;

/// What became of a file.
pub(super) enum Sent {
    /// All of it has left.
    All,
    /// What is left cannot be sent so; it can be read.
    Unsupported,
    /// It has become shorter: what was announced cannot be kept.
    Cut,
    /// The client is gone, or takes nothing.
    Gone,
}

/// Segments are small below this, in bytes: the least that IPv6 can carry (RFC 8200 section 5) leaves room for 1220, Ethernet for 1460.
const SEGMENT_BYTES_MIN: u32 = 1024;
/// So many small ones wait in the kernel at most. Arbitrary.
const SMALL_SEGMENTS_MAX: u32 = 8;

/// Not of this file, or not in a sandbox that knows no sendfile(2).
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

impl<S: Transport> Connection<S> {
    /// Sends a range of a file as the client takes it.
    pub(super) async fn send_file(
        &self,
        file: &File,
        range: &mut Range<u64>,
        outgoing: &mut Outgoing,
    ) -> Sent {
        if !self.wait_written(S::poll_flush).await {
            return Sent::Gone;
        }
        self.bound_unsent();
        while !range.is_empty() {
            let count = match self.send_some(file, range).await {
                Some(Ok(0)) => return Sent::Cut,
                Some(Ok(count)) => count as u64,
                Some(Err(error)) if is_unsupported(&error) => return Sent::Unsupported,
                Some(Err(_)) | None => return Sent::Gone,
            };
            range.start += count;
            outgoing.count(count);
            self.note(|entry| entry.bytes += count);
        }
        Sent::All
    }

    /// A segment that waits in the kernel takes some 1.3 KiB of it, however little it carries. Who announces a window of a few hundred bytes,
    /// as slow clients do on purpose, is sent small ones, and so has fewer of them.
    fn bound_unsent(&self) {
        let bytes = self.shared.limits.unsent_bytes;
        match self.stream.max_segment() {
            Ok(segment) if bytes > 0 && segment < SEGMENT_BYTES_MIN => {
                // For want of it more memory is used, and nothing else.
                let _ = self.stream.set_notsent_lowat(bytes.min(SMALL_SEGMENTS_MAX * segment));
            }
            _ => {}
        }
    }

    /// Sends what can be sent at once, as soon as something can. `None` if the client has taken nothing for too long.
    async fn send_some(&self, file: &File, range: &Range<u64>) -> Option<io::Result<usize>> {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut sending = pin!(self.stream.send_file(file, range.start, len));
        self.wait_taking(&mut Patience::new(), || true, |cx| sending.as_mut().poll(cx)).await
    }
}
