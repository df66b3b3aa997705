//! Hearing that a peer has reset its connection while nothing is received from it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::TcpStream;
use crate::op::Operation;

/// Done when the peer has reset the connection; from [`TcpStream::reset_by_peer`](super::TcpStream::reset_by_peer).
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResetByPeer<'a> {
    state: State,
    /// The number that is watched stays the stream's.
    stream: PhantomData<&'a TcpStream>,
}

#[derive(Debug)]
enum State {
    Watching(Operation),
    /// The peer has ended its side in order: the kernel tells a watch of that too, and would at once tell the next one. Or there is
    /// no watch to be had.
    Ended,
    Reset,
}

impl ResetByPeer<'_> {
    pub(super) fn new(watch: Operation) -> Self {
        ResetByPeer { state: State::Watching(watch), stream: PhantomData }
    }
}

impl Future for ResetByPeer<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Watching(watch) = &mut self.state {
            let events = ready!(Pin::new(watch).poll(cx)).result.unwrap_or(0);
            let is_reset = events & (libc::POLLERR | libc::POLLHUP) as u32 != 0;
            self.state = if is_reset { State::Reset } else { State::Ended };
        }
        match self.state {
            State::Reset => Poll::Ready(()),
            State::Ended | State::Watching(_) => Poll::Pending,
        }
    }
}
