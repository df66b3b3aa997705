//! Waiting for what was written to leave, and the patience with clients that take nothing.
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Connection;
use crate::server::Shared;
use crate::transport::Transport;

/// When it is looked for the first time how much a client has taken, at the latest.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(1);

/// Ready when enough of what was written has left.
type PollWritten<S> = fn(&S, &mut Context<'_>) -> Poll<io::Result<()>>;

impl<S: Transport> Connection<S> {
    /// Waits until what was written has left, as far as `poll` says. `false` if the client does not take it.
    pub(super) async fn wait_written(&self, poll: PollWritten<S>) -> bool {
        let written = self.wait_taking(|cx| poll(&self.stream, cx)).await;
        written.is_some_and(|written| written.is_ok())
    }

    /// Waits for what becomes ready when the client takes what was written. `None` if it does not take it: nothing left for the
    /// length of the write timeout, or of the linger time once the server drains.
    pub(super) async fn wait_taking<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let service = &self.shared.service;
        // What the client has taken, and what waits here, at the last sign of progress.
        let mut last: Option<(u64, usize)> = None;
        let mut since = annulet::time::now();
        loop {
            let drains = service.drains();
            let patience = self.write_patience();
            let ready = poll_fn(|cx| match poll(cx) {
                Poll::Ready(ready) => Poll::Ready(Some(ready)),
                // It counts anew, and is less.
                Poll::Pending if service.drains() != drains => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            // Nobody says when the client has taken a little, so it is looked at now and then. What has left here says less, a
            // request of the ring or the kernel's buffer lets go in steps of up to some 100 KiB, but is known where nothing else is.
            // Once when it has begun, then when its time is up: ten thousand slow ones shall not keep the loop busy with looking.
            let next = match last {
                None => (patience / 8).min(FIRST_LOOK_MAX),
                Some(_) => patience.saturating_sub(annulet::time::now() - since),
            };
            let outcome = annulet::time::timeout(next, ready).await;
            let now = annulet::time::now();
            let (taken, waiting) = match outcome {
                Ok(Some(ready)) => return Some(ready),
                Ok(None) => {
                    since = now;
                    continue;
                }
                Err(_) => (self.stream.taken(), self.stream.send_buffered()),
            };
            match last {
                // Nothing was known before the first look.
                None => last = Some((taken, waiting)),
                Some(before) if taken > before.0 || waiting < before.1 => {
                    (last, since) = (Some((taken, waiting)), now);
                }
                Some(_) => {
                    self.give_up();
                    return None;
                }
            }
        }
    }

    /// How long a client may take nothing.
    fn write_patience(&self) -> Duration {
        let Shared { service, limits, .. } = &*self.shared;
        if service.drains() { limits.write_timeout.min(limits.linger) } else { limits.write_timeout }
    }

    /// The connection will be reset when it is dropped. Otherwise what has been written would wait in memory, ours and the kernel's,
    /// for as long as the client likes.
    fn give_up(&self) {
        // Fails only where there is no connection any more.
        let _ = self.stream.set_zero_linger();
    }
}
