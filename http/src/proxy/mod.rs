//! Who a client is, when a proxy stands before us: the [PROXY protocol](header), and trusted [forwarding fields](forwarded). No I/O.
//!
//! A listener either expects a PROXY header from everybody or from nobody: guessing would let any client choose its address.

mod forwarded;
mod header;
mod network;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

pub use forwarded::ForwardingField;
pub(crate) use header::{Header, header, is_header_begun};
pub use network::Network;

/// Whom to believe, and what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// Each connection begins with a PROXY header, and comes from one of these.
    pub(crate) header_from: Option<Rc<[Network]>>,
    /// Whose fields are believed.
    trusted: Rc<[Network]>,
    /// Which fields. Asked only where somebody is trusted.
    field: Option<ForwardingField>,
}

impl Proxies {
    pub(crate) fn trust(&mut self, trusted: impl IntoIterator<Item = Network>, field: ForwardingField) {
        (self.trusted, self.field) = (trusted.into_iter().collect(), Some(field));
    }

    /// Whether an address is one of those whose fields are believed.
    pub(crate) fn are_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// Who sends the requests of a connection, and whom among the proxies to believe.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// By the PROXY header, else by the socket. `None` where it is not asked for.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) proxies: Rc<Proxies>,
    /// What the handshake came to, where TLS is spoken.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<annulet_tls::TlsInfo>,
}

impl Peer {
    /// The client of a request with these fields.
    pub(crate) fn client_of<'a>(&self, fields: impl Fn(&'static str) -> Vec<&'a [u8]>) -> Option<IpAddr> {
        let peer = self.address?.ip();
        match self.proxies.field {
            Some(field) => field.client(&self.proxies.trusted, peer, &fields(field.of_client())),
            None => Some(peer.to_canonical()),
        }
    }

    /// Whether a request for an `https` URI may come this way: over TLS, or from a gateway that is trusted to have spoken it.
    pub(crate) fn takes_https(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        // Who may send a PROXY header is the gateway, whomever the header names.
        let is_trusted = self.address.is_some_and(|address| self.proxies.are_trusted(address.ip()));
        self.proxies.header_from.is_some() || is_trusted
    }

    /// What the nearest proxy says that it was asked by, if it is to be believed.
    pub(crate) fn proto_of<'a>(
        &self,
        fields: impl Fn(&'static str) -> Vec<&'a [u8]>,
    ) -> Option<&'static str> {
        let address = self.address?.ip();
        let field = self.proxies.field.filter(|_| self.proxies.are_trusted(address))?;
        field.proto(fields(field.of_proto()).last()?)
    }
}
