//! The listening sockets of all slots, which the supervisor owns until workers are told to stop.
//!
//! Closing a listening socket resets what waits in its queue; so they are made once, workers get copies of the descriptors,
//! and a successor gets all of them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use super::inherit::Inherited;
use super::watch::say;
use crate::net::{ListenOptions, extend_group, steer};

/// The sockets of all addresses.
#[derive(Debug)]
pub(super) struct Sockets {
    addresses: Vec<Address>,
    /// Of who is beside the workers: one socket.
    beside: Option<Address>,
}

/// The sockets of one address: one a slot, or fewer, which slots share.
#[derive(Debug)]
struct Address {
    asked: SocketAddr,
    bound: SocketAddr,
    sockets: Vec<TcpListener>,
    is_shared: bool,
}

impl Sockets {
    /// Binds what is asked for and not there yet. What is there, and not asked for, comes behind it.
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::bind_group`].
    pub(super) fn new(
        options: &ListenOptions,
        asked: &[SocketAddr],
        beside: Option<SocketAddr>,
        activated: Vec<TcpListener>,
        mut inherited: Vec<Inherited>,
        slots: usize,
    ) -> io::Result<Sockets> {
        for socket in activated {
            // The manager has chosen the others.
            options.apply_to(&socket)?;
            let bound = socket.local_addr()?;
            // One of a service manager belongs to its user: no others can join it.
            match inherited.iter_mut().find(|address| address.asked == bound) {
                Some(address) => address.sockets.push(socket),
                None => inherited.push(Inherited { asked: bound, is_shared: true, sockets: vec![socket] }),
            }
        }
        let mut new = |address, slots| {
            let found = inherited.iter().position(|inherited| inherited.asked == address);
            let inherited = found.map(|at| inherited.remove(at));
            Address::new(options, address, inherited, slots)
        };
        let mut addresses =
            asked.iter().map(|&address| new(address, slots)).collect::<io::Result<Vec<_>>>()?;
        let beside = beside.map(|address| new(address, 1)).transpose()?;
        for more in inherited {
            addresses.push(Address::new(options, more.asked, Some(more), slots)?);
        }
        Ok(Sockets { addresses, beside })
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| address.bound).collect()
    }

    /// Of who is beside the workers.
    pub(super) fn beside(&self) -> Option<(&TcpListener, SocketAddr)> {
        self.beside.as_ref().map(|address| (&address.sockets[0], address.bound))
    }

    /// Has the kernel choose the slot, among those of these cores, by the core that a connection's first packet came in on.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says of SO_ATTACH_REUSEPORT_CBPF, and for sockets that the slots share.
    pub(super) fn steer(&self, cores: &[usize]) -> io::Result<()> {
        self.addresses.iter().try_for_each(|Address { bound, sockets, is_shared, .. }| {
            if *is_shared || sockets.len() != cores.len() {
                let text =
                    format!("{bound} has not one socket for each worker, so none can be chosen by core");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            steer(sockets, cores)
        })
    }

    /// Those of one slot among `slots`, by address.
    pub(super) fn of_slot(&self, slot: usize, slots: usize) -> Vec<&TcpListener> {
        self.addresses.iter().flat_map(|address| of_slot(&address.sockets, slot, slots)).collect()
    }

    /// All of them, as a successor is told of them.
    pub(super) fn handed_on(&self) -> Vec<(SocketAddr, bool, Vec<BorrowedFd<'_>>)> {
        let handed = self.addresses.iter().chain(&self.beside);
        let handed = handed.map(|Address { asked, is_shared, sockets, .. }| {
            (*asked, *is_shared, sockets.iter().map(AsFd::as_fd).collect())
        });
        handed.collect()
    }
}

impl Address {
    fn new(
        options: &ListenOptions,
        asked: SocketAddr,
        inherited: Option<Inherited>,
        slots: usize,
    ) -> io::Result<Address> {
        let (sockets, is_shared) = match inherited {
            None => (options.bind_group(asked, slots)?, false),
            Some(Inherited { sockets, is_shared: true, .. }) => (sockets, true),
            Some(Inherited { mut sockets, .. }) => {
                let is_shared = match extend_group(options, &mut sockets, slots) {
                    Ok(()) => false,
                    // After privileges were dropped there is no second socket to be had at a port below 1024.
                    Err(error) => {
                        say(format_args!("{error}; the sockets that are there are shared"));
                        true
                    }
                };
                (sockets, is_shared)
            }
        };
        let Some(first) = sockets.first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no socket was handed on for {asked}"),
            ));
        };
        Ok(Address { asked, bound: first.local_addr()?, sockets, is_shared })
    }
}

/// Every socket belongs to a slot, and every slot has one. More sockets than slots: some slots have several, because none may
/// be closed. Fewer: they are shared.
fn of_slot<T>(sockets: &[T], slot: usize, slots: usize) -> Vec<&T> {
    match sockets.get(slot..) {
        Some(own) if !own.is_empty() => own.iter().step_by(slots).collect(),
        _ => vec![&sockets[slot % sockets.len()]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_a_service_manager_get_the_option_that_it_does_not_set() {
        let check = |nodelay| {
            let activated = TcpListener::bind("127.0.0.1:0").unwrap();
            let asked = activated.local_addr().unwrap();
            let options = ListenOptions { nodelay, ..ListenOptions::default() };
            // Asked for or not, it is there once, and whoever connects gets its options.
            for addresses in [&[asked][..], &[]] {
                let same = vec![activated.try_clone().unwrap()];
                let sockets = Sockets::new(&options, addresses, None, same, Vec::new(), 2).unwrap();
                assert_eq!(sockets.addresses(), [asked]);
                assert_eq!((sockets.of_slot(0, 2).len(), sockets.of_slot(1, 2).len()), (1, 1));
                let _client = std::net::TcpStream::connect(asked).unwrap();
                let (accepted, _) = sockets.of_slot(0, 2)[0].accept().unwrap();
                assert_eq!(accepted.nodelay().unwrap(), nodelay);
            }
        };
        check(true);
        check(false);
    }

    #[test]
    fn every_socket_has_a_slot_and_every_slot_a_socket() {
        let check = |sockets: usize, slots: usize, expected: &[&[usize]]| {
            let sockets: Vec<usize> = (0..sockets).collect();
            let of: Vec<Vec<usize>> = (0..slots)
                .map(|slot| of_slot(&sockets, slot, slots).into_iter().copied().collect())
                .collect();
            assert_eq!(of, expected);
        };
        check(2, 2, &[&[0], &[1]]);
        check(1, 3, &[&[0], &[0], &[0]]);
        check(2, 3, &[&[0], &[1], &[0]]);
        check(3, 2, &[&[0, 2], &[1]]);
        check(3, 1, &[&[0, 1, 2]]);
    }
}
