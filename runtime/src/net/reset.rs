//! Hearing that a peer has reset its connection while nothing is received from it.

use std::future::Future;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::TcpStream;
use crate::op::{Operation, request};
use crate::shard::Shard;

/// Done when the peer has reset the connection; from [`TcpStream::reset_by_peer`](super::TcpStream::reset_by_peer).
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResetByPeer<'a> {
    shard: Rc<Shard>,
    /// It stays the stream's.
    fd: RawFd,
    state: State,
    stream: PhantomData<&'a TcpStream>,
}

#[derive(Debug)]
enum State {
    /// Goes on behind the peer's orderly end.
    Watching(Operation),
    /// The kernel cannot do that, so this ends with the peer's side. It would end at once the next time.
    Once(Operation),
    /// The peer has ended its side in order. Or there is no watch to be had.
    Ended,
    Reset,
}

impl ResetByPeer<'_> {
    pub(super) fn new(shard: &Rc<Shard>, fd: RawFd) -> Self {
        let state = State::Watching(request::watch_number(shard, fd));
        ResetByPeer { shard: Rc::clone(shard), fd, state, stream: PhantomData }
    }
}

impl Future for ResetByPeer<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.state = match &mut self.state {
                State::Watching(watch) => {
                    let result = ready!(Pin::new(watch).poll(cx)).result;
                    match result.map_err(|error| error.raw_os_error()) {
                        Err(Some(libc::ECANCELED)) => State::Reset,
                        Ok(events) if request::is_hung_up(events as i32) => State::Reset,
                        // The kernel had no room to go on telling.
                        Ok(_) => State::Watching(request::watch_number(&self.shard, self.fd)),
                        // Errors and hang-ups are told to whoever polls for anything, or nothing.
                        Err(Some(libc::EINVAL)) => State::Once(request::poll_number(&self.shard, self.fd, 0)),
                        Err(_) => State::Ended,
                    }
                }
                State::Once(watch) => {
                    let events = ready!(Pin::new(watch).poll(cx)).result.unwrap_or(0);
                    if request::is_hung_up(events as i32) { State::Reset } else { State::Ended }
                }
                State::Ended => return Poll::Pending,
                State::Reset => return Poll::Ready(()),
            };
        }
    }
}
