//! Hearing that a peer has reset its connection while nothing is received from it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::op::Operation;

/// Done when the peer has reset the connection; from [`TcpStream::reset_by_peer`](super::TcpStream::reset_by_peer).
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResetByPeer {
    state: State,
}

#[derive(Debug)]
enum State {
    Watching(Operation),
    /// The peer has ended its side in order. The kernel tells a watch of that too, and would at once tell the next one.
    Ended,
    Reset,
}

impl ResetByPeer {
    pub(super) fn new(watch: Operation) -> Self {
        ResetByPeer { state: State::Watching(watch) }
    }
}

impl Future for ResetByPeer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Watching(watch) = &mut self.state {
            // An error says that there is no socket, or no loop, any more.
            let events = ready!(Pin::new(watch).poll(cx)).result.unwrap_or(libc::POLLERR as u32);
            let is_reset = events & (libc::POLLERR | libc::POLLHUP) as u32 != 0;
            self.state = if is_reset { State::Reset } else { State::Ended };
        }
        match self.state {
            State::Reset => Poll::Ready(()),
            State::Ended | State::Watching(_) => Poll::Pending,
        }
    }
}
