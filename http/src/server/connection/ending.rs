//! The end: a last answer that says why, the linger behind it, or another protocol.
use std::rc::Rc;

use bytes::Bytes;

use super::gather::Gather;
use super::idle::{Next, Times};
use super::{Connection, End, Progress, Turn};
use crate::access_log::Entry;
use crate::h1::{Refusal, is_head_request};
use crate::transport::Transport;
use crate::upgrade::{Upgrade, Upgraded};

impl<S: Transport> Connection<S> {
    /// Between requests there is nothing to answer (RFC 9112 section 9.5).
    #[cold]
    pub(super) fn end_input(&self, why: Refusal) -> Turn {
        match self.progress.get() {
            Progress::HeadBegun | Progress::HeadGrown => {
                let is_head = is_head_request(&self.rest.borrow());
                Turn::End(self.refuse(why, is_head))
            }
            // Who speaks TLS is told that this is the end (RFC 9112 section 9.8).
            Progress::New | Progress::Awaited | Progress::EmptyLines if !S::IS_PLAIN => {
                Turn::End(End::Finished)
            }
            Progress::New | Progress::Awaited | Progress::EmptyLines => Turn::End(self.leave()),
        }
    }

    /// The deadline has come. `None` if it is another one now.
    #[cold]
    pub(super) fn time_out(&self) -> Option<Turn> {
        if let Progress::New | Progress::Awaited | Progress::EmptyLines = self.progress.get() {
            let times = Times {
                keep_alive: self.shared.limits.keep_alive_timeout,
                patience: self.write_patience(),
                first_look: self.first_look(),
            };
            let (idle, next) = self.idle.get().look(self.taken(false), times);
            self.idle.set(idle);
            match next {
                Next::Look(after) => {
                    self.wait_at_most(after);
                    return None;
                }
                Next::Reset => {
                    self.give_up();
                    return Some(Turn::End(End::Gone));
                }
                Next::Over => {}
            }
        }
        Some(self.end_input(Refusal::Timeout))
    }

    /// The end when nothing more is to be read and nothing to be written.
    #[cold]
    pub(super) fn leave(&self) -> End {
        if self.has_unsent() { End::Finished } else { End::Gone }
    }

    #[cold]
    pub(super) fn refuse(&self, why: Refusal, is_head: bool) -> End {
        let now = annulet::time::now();
        if self.shared.log.is_some() {
            let entry = self.entry.take();
            let new = || Box::new(Entry::refused(&self.rest.borrow(), self.peer.get(), now));
            self.entry.set(Some(entry.unwrap_or_else(new)));
        }
        self.stream.with_send_buffer(|out| {
            let before = out.len();
            self.shared.service.refuse(why, is_head, now, &mut Gather::all(out));
            self.note(|entry| entry.note(&out[before..]));
        });
        End::Finished
    }
}

/// Hands the connection over to whoever answered 101.
pub(super) async fn pass_on<S: Transport>(connection: Rc<Connection<S>>, upgrade: Box<Upgrade>) {
    let Connection { stream, rest, .. } = alone(connection);
    stream.set_recv_deadline(None);
    let buffered = Bytes::copy_from_slice(&rest.into_inner());
    (upgrade.run)(Upgraded { stream: stream.into_socket(), buffered }).await;
}

/// What was written leaves, and the peer gets time to read it.
pub(super) async fn finish<S: Transport>(connection: Rc<Connection<S>>) {
    // What comes now is thrown away.
    connection.shared.hold_anyway(0);
    let linger = connection.shared.limits.linger;
    if !connection.wait_written(S::poll_flush).await {
        return;
    }
    // Errors end the connection, which is what happens next anyway.
    let _ = alone(connection).stream.close(linger).await;
}

/// The connection itself, of which its task has the only strong reference: a request has a weak one, kept or not.
fn alone<S: Transport>(connection: Rc<Connection<S>>) -> Connection<S> {
    Rc::into_inner(connection).expect("nobody keeps a connection but its task")
}
