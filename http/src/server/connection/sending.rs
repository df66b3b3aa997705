//! The content of an answer that is a file: it leaves without passing through memory of ours.
use std::io;
use std::ops::Range;
use std::pin::pin;

use annulet::fs::File;

use super::Connection;
use super::written::Patience;
use crate::h1::outgoing::Outgoing;
use crate::transport::Transport;

/// Why a file has not been sent, or not all of it.
pub(super) enum Unsent {
    /// What is left cannot be sent so; it can be read.
    Unsupported,
    /// It has become shorter: what was announced cannot be kept.
    Cut,
    /// The client is gone, or takes nothing.
    Gone,
}

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
    ) -> Result<(), Unsent> {
        if !self.wait_written(S::poll_flush).await {
            return Err(Unsent::Gone);
        }
        if let Some(few) = self.few_small_segments() {
            // Boxed: few connections want the room for it.
            Box::pin(self.send_first_window(few, file, range, outgoing)).await?;
        }
        while !range.is_empty() {
            self.send_some(file, range, u64::MAX, outgoing).await?;
        }
        Ok(())
    }

    /// Sends what can be sent at once, as soon as something can: at most so many bytes.
    pub(super) async fn send_some(
        &self,
        file: &File,
        range: &mut Range<u64>,
        bytes_max: u64,
        outgoing: &mut Outgoing,
    ) -> Result<(), Unsent> {
        let len = usize::try_from((range.end - range.start).min(bytes_max)).unwrap_or(usize::MAX);
        let mut sending = pin!(self.stream.send_file(file, range.start, len));
        let sent = self.wait_taking(&mut Patience::new(), || true, |cx| sending.as_mut().poll(cx)).await;
        let count = match sent {
            Some(Ok(0)) => return Err(Unsent::Cut),
            Some(Ok(count)) => count as u64,
            Some(Err(error)) if is_unsupported(&error) => return Err(Unsent::Unsupported),
            Some(Err(_)) | None => return Err(Unsent::Gone),
        };
        range.start += count;
        outgoing.count(count);
        self.note(|entry| entry.bytes += count);
        Ok(())
    }
}
