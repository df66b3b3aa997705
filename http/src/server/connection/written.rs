//! Waiting for what was written to leave, and the patience with clients that take nothing.
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Connection;
use crate::server::Shared;
use crate::transport::Transport;

/// How late it may be noticed that a client takes nothing any more.
const PROGRESS_STEP_MAX: Duration = Duration::from_secs(1);

/// Ready when enough of what was written has left.
type PollWritten<S> = fn(&S, &mut Context<'_>) -> Poll<io::Result<()>>;

impl<S: Transport> Connection<S> {
    /// Waits until what was written has left, as far as `poll` says. `false` if the client does not take it: nothing left for the
    /// length of the write timeout, or of the linger time once the server drains.
    pub(super) async fn wait_written(&self, poll: PollWritten<S>) -> bool {
        let service = &self.shared.service;
        let mut least = usize::MAX;
        let mut since = annulet::time::now();
        loop {
            let drains = service.drains();
            let patience = self.write_patience();
            let written = poll_fn(|cx| match poll(&self.stream, cx) {
                Poll::Ready(written) => Poll::Ready(Some(written.is_ok())),
                Poll::Pending if service.drains() != drains => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            // Nobody says when the client has taken a little, so it is looked at now and then. The kernel asks for more in large
            // steps: what it has sent and not been thanked for counts too.
            let outcome = annulet::time::timeout((patience / 8).min(PROGRESS_STEP_MAX), written).await;
            let now = annulet::time::now();
            let left = match outcome {
                Ok(Some(is_written)) => return is_written,
                Ok(None) => {
                    since = now;
                    continue;
                }
                Err(_) => self.stream.untaken(),
            };
            match left {
                // Nothing was known before the first look.
                left if least == usize::MAX => least = left,
                left if left < least => (least, since) = (left, now),
                _ if now - since < patience => {}
                _ => {
                    self.give_up();
                    return false;
                }
            }
        }
    }

    /// How long a client may take nothing.
    pub(super) fn write_patience(&self) -> Duration {
        let Shared { service, limits, .. } = &*self.shared;
        if service.drains() { limits.write_timeout.min(limits.linger) } else { limits.write_timeout }
    }

    /// The connection will be reset when it is dropped. Otherwise what has been written would wait in memory, ours and the kernel's,
    /// for as long as the client likes.
    pub(super) fn give_up(&self) {
        // Fails only where there is no connection any more.
        let _ = self.stream.set_zero_linger();
    }
}
