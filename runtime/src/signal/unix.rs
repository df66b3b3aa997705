//! Listeners: signals as a stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::handler::{Mark, Registration};
pub use super::kind::SignalKind;
use crate::shard::{ListenerId, Shard, current, with_current};
use crate::task::waits::{WaitsFor, note};

/// Listens for a signal from now on.
///
/// Any number of listeners, on any loops, hear each signal. The first one of a kind in a process replaces what the signal
/// did by default, for the rest of the process's life: after SIGINT was listened for once, Ctrl-C ends the process only
/// if the program does.
///
/// # Examples
///
/// ```
/// use annulet::signal::unix::{SignalKind, signal};
///
/// annulet::run(async {
///     let mut hangup = signal(SignalKind::hangup()).unwrap();
///     rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
///     hangup.recv().await;
///     println!("reading the configuration again");
/// });
/// ```
///
/// # Errors
///
/// `InvalidInput` for signals that cannot be caught (SIGKILL, SIGSTOP), that report a failed instruction (SIGSEGV, SIGBUS,
/// SIGILL, SIGFPE), and for numbers that are no signal.
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let shard = current();
    let mark = Mark::default();
    let registration = Registration::new(kind, mark.clone(), shard.doorbell())?;
    let id = shard.signals.insert(mark.clone());
    Ok(Signal { kind, mark, id, shard, _registration: registration })
}

/// A listener for one signal; made by [`signal`]. It stays on its loop.
///
/// As a stream it never ends.
#[derive(Debug)]
#[must_use = "a listener that is dropped hears nothing"]
pub struct Signal {
    kind: SignalKind,
    mark: Mark,
    /// Its entry in the loop's table.
    id: ListenerId,
    shard: Rc<Shard>,
    /// Dropped with the listener: the handler forgets it.
    _registration: Registration,
}

impl Signal {
    /// Which signal it listens for.
    pub fn kind(&self) -> SignalKind {
        self.kind
    }

    /// Waits for the signal. Those that come while nobody waits are kept as one.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no signal.
    ///
    /// # Panics
    ///
    /// When it is awaited elsewhere than on its own loop.
    pub async fn recv(&mut self) {
        poll_fn(|cx| self.poll_recv(cx)).await;
    }

    /// The polling form of [`recv`](Self::recv). Only the task that polled last is woken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_here = with_current(|current| current.is_some_and(|current| current.key == self.shard.key));
        assert!(
            is_here,
            "a signal listener was awaited outside of its loop; listen anew with signal() on the loop that waits"
        );
        // Who sends itself signals without end lets others run.
        std::task::ready!(self.shard.executor.poll_share(cx));
        if self.mark.take() {
            return Poll::Ready(());
        }
        let old = self.shard.signals.wait(self.id, cx.waker().clone());
        drop(old);
        note(WaitsFor::Operation { name: self.kind.name().unwrap_or("a signal"), fd: -1 });
        Poll::Pending
    }
}

impl Stream for Signal {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.poll_recv(cx).map(Some)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        let waker = self.shard.signals.remove(self.id);
        drop(waker);
    }
}
