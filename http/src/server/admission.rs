//! Who is let in, and how much all of them may hold: counts of one core.
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::rc::Rc;

use annulet::net::TcpStream;

use super::Shared;
use crate::h1::{Limits, Refusal};

/// Refusals that are being told at the same time; beyond this connections are dropped without a word.
const REFUSED_MAX: usize = 64;

/// The counts of a core.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Only [clients](one_client) that have a connection.
    per_address: RefCell<HashMap<IpAddr, u32>>,
    refused: Cell<usize>,
    /// What connections hold in memory, in bytes.
    held: Cell<usize>,
}

/// One connection of an address; given up on drop.
#[derive(Debug)]
pub(super) struct Place {
    shared: Rc<Shared>,
    address: IpAddr,
}

impl Place {
    /// A place for this connection, `None` where addresses are not counted.
    ///
    /// # Errors
    ///
    /// Why it is not let in.
    pub(super) fn take(shared: &Rc<Shared>, stream: &TcpStream) -> Result<Option<Box<Place>>, Refusal> {
        let Limits { connections, connections_per_address, .. } = shared.limits;
        if shared.registry.connections() >= connections {
            return Err(Refusal::TooManyConnections);
        }
        // Who is asked for a PROXY header is counted when it has named somebody.
        let is_named_later = shared.proxies.as_ref().is_some_and(|proxies| proxies.header_from.is_some());
        if connections_per_address == u32::MAX || is_named_later {
            return Ok(None);
        }
        // Who is gone already needs no place.
        let Ok(address) = stream.peer_addr() else { return Ok(None) };
        Place::take_of(shared, address.ip())
    }

    /// A place for a connection of this address, `None` where it is not counted: a trusted proxy stands for many.
    ///
    /// # Errors
    ///
    /// When it has enough of them.
    pub(super) fn take_of(shared: &Rc<Shared>, address: IpAddr) -> Result<Option<Box<Place>>, Refusal> {
        let connections_per_address = shared.limits.connections_per_address;
        let is_trusted = shared.proxies.as_ref().is_some_and(|proxies| proxies.are_trusted(address));
        if connections_per_address == u32::MAX || is_trusted {
            return Ok(None);
        }
        let address = one_client(address.to_canonical());
        let mut per_address = shared.admission.per_address.borrow_mut();
        let count = per_address.entry(address).or_default();
        if *count >= connections_per_address {
            return Err(Refusal::TooManyFromAddress);
        }
        *count += 1;
        Ok(Some(Box::new(Place { shared: shared.clone(), address })))
    }
}

/// What one client has: an address of IPv4, but a network of 64 bits of IPv6 (RFC 4291 section 2.5.1, RFC 6177), in which it could
/// take another address for each connection.
fn one_client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64).into(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut per_address = self.shared.admission.per_address.borrow_mut();
        if let Some(count) = per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}

/// A refusal that is being told; counted until it is dropped.
pub(super) struct Telling(Rc<Shared>);

impl Telling {
    /// `None` when enough are being told.
    pub(super) fn begin(shared: &Rc<Shared>) -> Option<Telling> {
        let refused = &shared.admission.refused;
        (refused.get() < REFUSED_MAX).then(|| {
            refused.set(refused.get() + 1);
            Telling(shared.clone())
        })
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let refused = &self.0.admission.refused;
        refused.set(refused.get() - 1);
    }
}

impl Admission {
    /// What all connections hold, in bytes, with what waits in send buffers for clients that do not take it, and what TLS has
    /// received and could not decrypt yet.
    pub(super) fn held(&self) -> usize {
        let held = self.held.get() + annulet::net::unsent_bytes();
        #[cfg(feature = "tls")]
        let held = held + annulet_tls::undecrypted_bytes();
        held
    }

    /// Whether that is more than it may be.
    #[cold]
    pub(super) fn is_over(&self, limits: &Limits) -> bool {
        self.held() > limits.memory_bytes
    }
}

/// What one connection has of the core's: its place and its share of the memory. Both go back when it is dropped.
pub(super) struct Seat {
    shared: Rc<Shared>,
    /// Only held.
    place: Cell<Option<Box<Place>>>,
    /// In bytes.
    held: Cell<usize>,
}

impl Seat {
    pub(super) fn new(shared: Rc<Shared>, place: Option<Box<Place>>) -> Seat {
        Seat { shared, place: Cell::new(place), held: Cell::new(0) }
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The place of a connection whose address was not known at first.
    pub(super) fn take(&self, place: Option<Box<Place>>) {
        self.place.set(place);
    }

    /// The connection holds so much now.
    ///
    /// # Errors
    ///
    /// When that is more than before and too much for the core; nothing is changed then.
    #[inline]
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Refusal> {
        let before = self.held.get();
        if bytes > before && self.shared.admission.held() - before + bytes > self.shared.limits.memory_bytes {
            return Err(Refusal::Memory);
        }
        self.hold_anyway(bytes);
        Ok(())
    }

    /// As `hold`, for what cannot be refused any more.
    #[inline]
    pub(super) fn hold_anyway(&self, bytes: usize) {
        let before = self.held.replace(bytes);
        let held = &self.shared.admission.held;
        held.set(held.get() - before + bytes);
    }

    /// The connection holds so much besides, which cannot be refused any more.
    pub(super) fn hold_more(&self, bytes: usize) {
        self.hold_anyway(self.held.get() + bytes);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hold_anyway(0);
    }
}

impl Deref for Seat {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        &self.shared
    }
}
