//! Waiting for what was written to leave, and the patience with clients that take nothing.
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Connection;
use crate::server::Shared;
use crate::transport::Transport;

/// Ready when enough of what was written has left.
type PollWritten<S> = fn(&S, &mut Context<'_>) -> Poll<io::Result<()>>;

/// Since when a client has taken nothing, as far as is known.
///
/// Nobody says when a client has taken a little, so it is looked at when its time would be up: ten thousand slow ones shall not keep
/// the loop busy with looking. The kernel knows when it was.
pub(super) struct Patience {
    since: Instant,
    /// What the client had taken when it was looked at last.
    taken: Option<u64>,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { since: annulet::time::now(), taken: None }
    }

    /// The client has taken so much, ever, and nothing any more for the time `idle`.
    fn look(&mut self, now: Instant, taken: u64, idle: Duration) {
        // Before the first look nothing was known.
        if self.taken.is_none_or(|before| taken > before) {
            let moved = now.checked_sub(idle);
            self.since = moved.map_or(self.since, |moved| moved.max(self.since));
        }
        self.taken = Some(taken);
    }
}

impl<S: Transport> Connection<S> {
    /// Waits until what was written has left, as far as `poll` says. `false` if the client does not take it.
    pub(super) async fn wait_written(&self, poll: PollWritten<S>) -> bool {
        let written = self.wait_taking(&mut Patience::new(), || true, |cx| poll(&self.stream, cx)).await;
        written.is_some_and(|written| written.is_ok())
    }

    /// Waits for `poll`. `None` if meanwhile the client takes nothing of what waits to leave, if anything `waits`: for the length of the
    /// write timeout, or of the linger time once the server drains.
    pub(super) async fn wait_taking<T>(
        &self,
        patience: &mut Patience,
        waits: impl Fn() -> bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let service = &self.shared.service;
        while waits() {
            let drains = service.drains();
            let ready = poll_fn(|cx| match poll(cx) {
                Poll::Ready(ready) => Poll::Ready(Some(ready)),
                // It counts anew, and is less.
                Poll::Pending if service.drains() != drains => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            let waited = annulet::time::now().saturating_duration_since(patience.since);
            let left = self.write_patience().saturating_sub(waited);
            match annulet::time::timeout(left, ready).await {
                Ok(Some(ready)) => {
                    if !waits() {
                        *patience = Patience::new();
                    }
                    return Some(ready);
                }
                Ok(None) => *patience = Patience::new(),
                Err(_) if !waits() => break,
                Err(_) => {
                    let now = annulet::time::now();
                    if self.has_taken_all() {
                        // So it is something else that takes its time: a disk.
                        *patience = Patience::new();
                    } else {
                        let (taken, idle) = self.taken();
                        patience.look(now, taken, idle);
                    }
                    if now - patience.since >= self.write_patience() {
                        self.give_up();
                        return None;
                    }
                }
            }
        }
        // What is written when this is over is waited for from then on.
        let ready = poll_fn(poll).await;
        *patience = Patience::new();
        Some(ready)
    }

    /// What the client has taken, ever, and how long it has taken nothing.
    fn taken(&self) -> (u64, Duration) {
        match self.stream.send_progress() {
            Ok(progress) => (progress.acknowledged, progress.idle),
            // What has left here says less, the kernel's buffer takes it in steps of up to some 100 KiB, but is known where nothing
            // else is.
            Err(_) => (u64::MAX - self.stream.send_buffered() as u64, Duration::ZERO),
        }
    }

    /// Whether nothing waits for the client, as far as the kernel tells.
    fn has_taken_all(&self) -> bool {
        !self.has_unsent() && self.stream.send_progress().is_ok_and(|progress| !progress.waits)
    }

    /// How long the client has taken nothing of what waits for it, here or in the kernel, if anything does.
    pub(super) fn silence(&self) -> Option<Duration> {
        match self.stream.send_progress() {
            Ok(progress) if progress.waits => Some(progress.idle),
            // The kernel has room, so it is on its way there.
            Ok(_) => self.has_unsent().then_some(Duration::ZERO),
            Err(_) => self.has_unsent().then_some(Duration::MAX),
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use annulet::net::{TcpListener, TcpStream};

    use super::*;
    use crate::router::Router;
    use crate::server::Server;
    use crate::server::admission::Seat;

    /// As where a disk is slow and a file is sent.
    #[annulet::test(start_paused = true)]
    async fn what_else_is_waited_for_is_not_the_client_s_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let seat = Seat::new(Server::new(Router::new()).shared, None);
        let connection = Connection::new(listener.accept().await.unwrap(), seat);
        connection.stream.write_all(b"head").await.unwrap();
        connection.stream.flush().await.unwrap();
        assert_eq!(&*client.recv().await.unwrap().unwrap(), b"head");
        let mut disk = pin!(annulet::time::sleep(connection.write_patience() * 3));
        let mut patience = Patience::new();
        let read = connection.wait_taking(&mut patience, || true, |cx| disk.as_mut().poll(cx));
        assert_eq!(read.await, Some(()));
    }

    #[test]
    fn the_last_progress_counts_from_when_it_was() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        // When it is looked, what has been taken by then and since when nothing has; since when it counts.
        let check = |looks: &[(u64, u64, u64)], since| {
            let mut patience = Patience { since: begun, taken: None };
            for (now, taken, idle) in looks {
                patience.look(at(*now), *taken, Duration::from_secs(*idle));
            }
            assert_eq!((patience.since - begun).as_secs(), since, "{looks:?}");
        };
        // Nothing since before it began.
        check(&[(30, 500, 70)], 0);
        // It stopped after a second.
        check(&[(30, 500, 29)], 1);
        check(&[(30, 500, 29), (31, 500, 30)], 1);
        // Something is sent again, to nobody: no progress.
        check(&[(30, 500, 29), (31, 500, 2)], 1);
        // It takes a little.
        check(&[(30, 500, 29), (31, 501, 1)], 30);
        check(&[(30, 500, 29), (31, 501, 1), (60, 501, 30)], 30);
        // Longer ago than any clock goes back.
        check(&[(30, 500, u64::MAX)], 0);
    }
}
