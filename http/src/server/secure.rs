//! What comes before the pump where TLS is spoken: the handshake, within the limits of a connection.
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use annulet::net::TcpStream;
use annulet_tls::{Plain, TlsAcceptor, TlsStream, undecrypted_bytes};

use super::admission::{Place, Seat};
use super::connection::Connection;
use super::drain::Member;
use super::{Shared, tell};
use crate::h1::{Refusal, is_head_request};
use crate::proxy::is_header_begun;
use crate::service::SMALL_BYTES_MAX;

/// The one protocol that is spoken here (RFC 7301 section 6).
const ALPN: &[u8] = b"http/1.1";

/// A connection's task, from the first byte of the handshake.
pub(super) async fn run(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shared: Rc<Shared>,
    place: Option<Box<Place>>,
) {
    let _member = poll_fn(|cx| Poll::Ready(Member::join(&shared, true, cx))).await;
    // In memory of its own, which goes back with the handshake's end. Whom rustls refused has been told why by an alert; who is
    // late, finds no memory left or sends a hello beyond annulet-tls's bound has not. Who speaks no TLS is told in plain words.
    let shaken = Box::pin(shake(stream, &acceptor, &shared)).await;
    let stream = match shaken {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(Plain { stream, received }))) => {
            // A PROXY header comes at once (section 2 of its specification), and whoever cuts a method in two gets content behind HEAD.
            let is_header = is_header_begun(&received);
            let why = if is_header { Refusal::ProxyUnexpected } else { Refusal::TlsMissing };
            let is_head = is_head_request(&received);
            drop(received);
            return tell(stream, why, is_head, &shared).await;
        }
        Some(Err(_)) | None => return,
    };
    drop(acceptor);
    if stream.alpn().is_none_or(|protocol| protocol == ALPN) {
        Connection::new(stream, Seat::new(shared, place)).serve_all().await;
    }
}

/// `None` when the time of a head is up, or the server drains, or there is no memory for so much of a handshake: nothing was asked yet.
/// The inner error is a client that speaks without TLS.
async fn shake(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    shared: &Rc<Shared>,
) -> Option<io::Result<Result<TlsStream, Plain<TcpStream>>>> {
    let mut handshake =
        std::pin::pin!(annulet::time::timeout(shared.limits.head_timeout, acceptor.accept_or_plain(stream)));
    // What was received of it and not understood yet. Nobody else comes to anything while it is polled.
    let mut held = 0;
    poll_fn(|cx| {
        let before = undecrypted_bytes();
        let polled = handshake.as_mut().poll(cx);
        held = (held + undecrypted_bytes()).saturating_sub(before);
        match polled {
            Poll::Ready(done) => Poll::Ready(done.ok()),
            Poll::Pending if shared.service.drains() => Poll::Ready(None),
            Poll::Pending if held > SMALL_BYTES_MAX && shared.admission.is_over(&shared.limits) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
