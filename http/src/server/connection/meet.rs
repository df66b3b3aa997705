//! Who is at the other end: the PROXY header, where one is expected, and the place of whom it names.
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use super::{Connection, End};
use crate::h1::Refusal;
use crate::proxy::{self, Header, Peer};
use crate::server::admission::Place;
use crate::transport::Transport;

impl<S: Transport> Connection<S> {
    /// Learns who is at the other end, where that is kept in mind.
    ///
    /// # Errors
    ///
    /// The connection is not let in; it may have been told why.
    pub(super) async fn meet(&self) -> Result<(), End> {
        let mut peer = Peer::default();
        #[cfg(feature = "tls")]
        {
            peer.tls = self.stream.tls_info();
        }
        let Some(proxies) = &self.shared.proxies else {
            self.know(peer);
            return Ok(());
        };
        // Who is gone already needs no name.
        let mut address = self.stream.peer_addr().map_err(|_| End::Gone)?;
        if let Some(from) = &proxies.header_from {
            if !S::IS_PLAIN {
                // It would have stood before the handshake.
                return Err(End::Gone);
            }
            if !from.iter().any(|network| network.contains(address.ip())) {
                return Err(self.refuse(Refusal::ProxyUntrusted, false));
            }
            address = self.read_header().await?.unwrap_or(address);
        }
        (peer.address, peer.proxies) = (Some(address), proxies.clone());
        self.know(peer);
        if proxies.header_from.is_some() {
            match Place::take_of(self.shared.shared(), address.ip()) {
                Ok(place) => self.shared.take(place),
                Err(why) => return Err(self.refuse(why, false)),
            }
        }
        Ok(())
    }

    fn know(&self, peer: Peer) {
        self.peer.set(Rc::new(peer)).expect("set once, when it is met");
    }

    /// Takes the PROXY header off the front of what comes. Gives whom it names.
    pub(super) async fn read_header(&self) -> Result<Option<SocketAddr>, End> {
        self.wait_at_most(self.shared.limits.head_timeout);
        loop {
            let header = proxy::header(&self.rest.borrow());
            match header {
                Header::Partial => {}
                Header::Wrong => return Err(self.refuse(Refusal::ProxyHeader, false)),
                Header::Whole(used, named) => {
                    self.rest.borrow_mut().advance(used);
                    self.shared.hold_anyway(self.rest.borrow().len());
                    return Ok(named);
                }
            }
            let received = poll_fn(|cx| match self.stream.poll_recv(cx) {
                // What has begun is on its way, request and all.
                Poll::Pending if self.shared.service.drains() && self.rest.borrow().is_empty() => {
                    Poll::Ready(Ok(None))
                }
                polled => polled,
            });
            match received.await {
                Ok(Some(lease)) => {
                    self.rest.borrow_mut().push(&lease);
                    self.shared.hold_anyway(self.rest.borrow().len());
                }
                // The end, or its time is over. A proxy that only looks whether somebody is here is told nothing.
                Ok(None) | Err(_) => return Err(End::Gone),
            }
        }
    }
}
