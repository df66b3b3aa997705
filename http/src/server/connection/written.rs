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

/// How far a client has come with what waits for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// What it has taken, ever: the low bits, enough to tell whether that has changed. (Each idle connection may remember it.)
    pub(super) bytes: u32,
    /// How long nothing has been taken, if all that is heard of the client says so. It may go on to thank for what it took before.
    pub(super) idle: Duration,
}

impl Taken {
    /// How long it has taken nothing: since it was looked at last, and for the time `known` by now, if what it had taken is as it was
    /// `before`.
    pub(super) fn silence(self, before: Option<u32>, known: Duration) -> Duration {
        // Before the first look nothing was known.
        if before == Some(self.bytes) { known } else { known.min(self.idle) }
    }
}

/// Since when a client has taken nothing, as far as is known.
///
/// Nobody says when a client has taken a little, so it is looked at when its time would be up: ten thousand slow ones shall not keep
/// the loop busy with looking. The kernel knows when it was.
pub(super) struct Patience {
    since: Instant,
    /// What the client had taken when it was looked at last.
    taken: Option<u32>,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { since: annulet::time::now(), taken: None }
    }

    /// How long the client has taken nothing.
    pub(super) fn look(&mut self, now: Instant, taken: Taken) -> Duration {
        let silence = taken.silence(self.taken, now - self.since);
        *self = Patience { since: now - silence, taken: Some(taken.bytes) };
        silence
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
                    let silence = match self.taken(true) {
                        Some(taken) => patience.look(annulet::time::now(), taken),
                        // The client has everything, so it is something else that takes its time: a disk.
                        None => {
                            *patience = Patience::new();
                            Duration::ZERO
                        }
                    };
                    if silence >= self.write_patience() {
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

    /// How far the client has come with what waits for it, here or in the kernel, if anything does; where the kernel does not tell, if
    /// something `may_wait` there.
    pub(super) fn taken(&self, may_wait: bool) -> Option<Taken> {
        match self.stream.send_progress() {
            Ok(progress) => {
                // Where the kernel has room, what is here is on its way there.
                let idle = if progress.waits { progress.idle } else { Duration::ZERO };
                let taken = Taken { bytes: progress.acknowledged as u32, idle };
                (progress.waits || self.has_unsent()).then_some(taken)
            }
            // What has left here says less, the kernel's buffer takes it in steps of up to some 100 KiB, but is known where nothing
            // else is.
            Err(_) => (may_wait || self.has_unsent())
                .then_some(Taken { bytes: self.stream.send_buffered() as u32, idle: Duration::ZERO }),
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
        let check = |looks: &[(u64, u32, u64)], since| {
            let mut patience = Patience { since: begun, taken: None };
            for (now, bytes, idle) in looks {
                let silence =
                    patience.look(at(*now), Taken { bytes: *bytes, idle: Duration::from_secs(*idle) });
                assert_eq!(silence, at(*now) - patience.since, "{looks:?}");
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
        // The count begins anew.
        check(&[(30, u32::MAX, 29), (31, 0, 1)], 30);
    }
}
