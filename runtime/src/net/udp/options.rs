//! Options of a UDP socket (udp(7), ip(7), ipv6(7)).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use super::UdpSocket;
use crate::net::stream::borrow;

impl UdpSocket {
    /// SO_BROADCAST: whether datagrams may be sent to a broadcast address.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says; so for all options.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_broadcast(broadcast))
    }

    /// IP_TTL: through how many routers an IPv4 datagram may go.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_ttl_v4(ttl))
    }

    /// IP_ADD_MEMBERSHIP: receives what is sent to `group`, on the interface with the address `interface`
    /// (`0.0.0.0`: as the kernel chooses).
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.join_multicast_v4(&group, &interface))
    }

    /// IP_DROP_MEMBERSHIP.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.leave_multicast_v4(&group, &interface))
    }

    /// IPV6_ADD_MEMBERSHIP: receives what is sent to `group`, on the interface with this index (0: as the kernel chooses).
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.join_multicast_v6(group, interface))
    }

    /// IPV6_DROP_MEMBERSHIP.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.leave_multicast_v6(group, interface))
    }

    /// IP_MULTICAST_IF: the address of the interface that multicast leaves by.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_multicast_if_v4(&self, interface: Ipv4Addr) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_multicast_if_v4(&interface))
    }

    /// IP_MULTICAST_LOOP: whether this machine receives its own multicast.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_multicast_loop_v4(&self, own: bool) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_multicast_loop_v4(own))
    }

    /// IPV6_MULTICAST_LOOP: likewise.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_multicast_loop_v6(&self, own: bool) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_multicast_loop_v6(own))
    }

    /// IP_MULTICAST_TTL: through how many routers multicast may go; 1 by default.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_multicast_ttl_v4(ttl))
    }

    /// SO_SNDBUF in bytes; the kernel doubles it for its own book-keeping, and `net.core.wmem_max` is the most.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_send_buffer_size(bytes))
    }

    /// SO_RCVBUF in bytes: room for datagrams that nobody has taken; doubled too, and `net.core.rmem_max` is the most.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_recv_buffer_size(bytes))
    }

    /// SO_RCVBUF as the kernel has it.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        borrow(self.as_raw_fd(), |socket| socket.recv_buffer_size())
    }
}
