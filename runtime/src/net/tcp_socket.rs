//! A TCP socket before it is bound or connected, for the options that must be set by then (socket(7), tcp(7)).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::connect::connect;
use super::{TcpListener, TcpStream};

/// A TCP socket that becomes a listener or a stream.
///
/// No option is set by itself. [`TcpListener::bind`] sets SO_REUSEADDR and TCP_NODELAY; do the same here if you want them.
///
/// # Examples
///
/// ```
/// use annulet::net::TcpSocket;
///
/// annulet::run(async {
///     let socket = TcpSocket::new_v4().unwrap();
///     socket.set_reuseaddr(true).unwrap();
///     socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
///     let listener = socket.listen(128).unwrap();
///
///     let socket = TcpSocket::new_v4().unwrap();
///     socket.set_nodelay(true).unwrap();
///     let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
///     assert!(stream.nodelay().unwrap());
/// });
/// ```
#[derive(Debug)]
pub struct TcpSocket(Socket);

/// How a silent connection is probed (TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long the connection is silent before the first probe; whole seconds.
    pub idle: Duration,
    /// The time between two probes; whole seconds.
    pub interval: Duration,
    /// So many probes without an answer end the connection.
    pub probes: u32,
}

impl Keepalive {
    /// Sets SO_KEEPALIVE with its times, or takes it back.
    pub(super) fn set(keepalive: Option<Keepalive>, socket: &Socket) -> io::Result<()> {
        let Some(Keepalive { idle, interval, probes }) = keepalive else {
            return socket.set_keepalive(false);
        };
        // Sets SO_KEEPALIVE too.
        let times = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        socket.set_tcp_keepalive(&times)
    }
}

impl TcpSocket {
    /// A socket for IPv4.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn new_v4() -> io::Result<Self> {
        Self::new(Domain::IPV4)
    }

    /// A socket for IPv6.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn new_v6() -> io::Result<Self> {
        Self::new(Domain::IPV6)
    }

    fn new(domain: Domain) -> io::Result<Self> {
        Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map(TcpSocket)
    }

    /// SO_REUSEADDR: binding succeeds over connections in TIME_WAIT, as after a restart.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says; so for all options.
    pub fn set_reuseaddr(&self, reuse: bool) -> io::Result<()> {
        self.0.set_reuse_address(reuse)
    }

    /// SO_REUSEPORT: several sockets of one user bind to the same address and share its connections.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_reuseport(&self, reuse: bool) -> io::Result<()> {
        self.0.set_reuse_port(reuse)
    }

    /// TCP_NODELAY: small sends do not wait for the answer to earlier ones. Accepted connections inherit it.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.set_tcp_nodelay(nodelay)
    }

    /// SO_KEEPALIVE with its times; `None` for no probes.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        Keepalive::set(keepalive, &self.0)
    }

    /// SO_SNDBUF in bytes; the kernel doubles it for its own book-keeping and stops growing it by itself.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0.set_send_buffer_size(bytes)
    }

    /// SO_RCVBUF in bytes; likewise. It bounds the window, so it is of use before connecting or listening only.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0.set_recv_buffer_size(bytes)
    }

    /// TCP_USER_TIMEOUT: how long sent bytes may stay without an acknowledgement before the connection is ended;
    /// `None` for the kernel's own rule, which is about a quarter of an hour.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_tcp_user_timeout(timeout)
    }

    /// SO_LINGER: what closing does with unsent bytes. Zero drops them and resets the connection; `None` sends them in
    /// the background, which is the rule. A time makes close(2) wait; it does so on a thread of the kernel.
    ///
    /// # Errors
    ///
    /// As for all options.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.0.set_linger(linger)
    }

    /// IPV6_V6ONLY: whether `::` stands for IPv4 as well (false) or not.
    ///
    /// # Errors
    ///
    /// As for all options; there is no such option for an IPv4 socket.
    pub fn set_only_v6(&self, only: bool) -> io::Result<()> {
        self.0.set_only_v6(only)
    }

    /// SO_BINDTODEVICE: only this interface, `eth0` for example; `None` for any.
    ///
    /// # Errors
    ///
    /// As for all options: `ENODEV` when there is no such interface.
    pub fn bind_device(&self, interface: Option<&str>) -> io::Result<()> {
        self.0.bind_device(interface.map(str::as_bytes))
    }

    /// Binds to `address`.
    ///
    /// # Errors
    ///
    /// What bind(2) says, with the address in the message.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        self.0.bind(&address.into()).map_err(|error| explain("bind to", address, &error))
    }

    /// The address that it was bound to; the kernel chose the port if zero was given.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Listens. At most `backlog` connections wait in the kernel, and no more than `net.core.somaxconn`.
    ///
    /// # Errors
    ///
    /// What listen(2) says.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.0.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::from_std(self.0.into())
    }

    /// Connects to `address`.
    ///
    /// # Errors
    ///
    /// What connect(2) says, with the address in the message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the connect and closes the socket.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        match connect(self.0, SockAddr::from(address)).await {
            Ok(stream) => Ok(TcpStream(stream)),
            Err(error) => Err(explain("connect to", address, &error)),
        }
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn explain(doing: &str, address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {doing} {address}: {error}"))
}
