//! What can be connected or bound to: addresses, and names that must be looked up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::lookup_host;

/// An address, or a host name with a port.
///
/// As the standard library's trait of this name, and for the same types; but a name is not looked up on the loop's thread.
/// It cannot be implemented outside.
pub trait ToSocketAddrs {
    /// What it stands for.
    #[doc(hidden)]
    fn target(&self) -> Target;
}

/// Part of a trait's private side.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Address(SocketAddr),
    Addresses(Vec<SocketAddr>),
    Name(String, u16),
    /// A text without a port.
    Invalid(String),
}

impl Target {
    /// Looks the name up, on a thread beside the loop, if it is one.
    pub(super) async fn resolve(self) -> io::Result<Target> {
        match self {
            Target::Name(host, port) => lookup_host(&host, port).await.map(Target::Addresses),
            Target::Invalid(text) => Err(invalid(&text)),
            resolved => Ok(resolved),
        }
    }

    /// Calls `f` with one address after the other until it succeeds.
    pub(super) fn try_each<R>(self, mut f: impl FnMut(SocketAddr) -> io::Result<R>) -> io::Result<R> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the host name has no address");
        for &address in self.addresses() {
            match f(address) {
                Ok(done) => return Ok(done),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same, and a name is looked up on this thread.
    pub(super) fn try_each_blocking<R>(self, f: impl FnMut(SocketAddr) -> io::Result<R>) -> io::Result<R> {
        let resolved = match self {
            Target::Name(host, port) => {
                Target::Addresses(std::net::ToSocketAddrs::to_socket_addrs(&(&*host, port))?.collect())
            }
            Target::Invalid(text) => return Err(invalid(&text)),
            resolved => resolved,
        };
        resolved.try_each(f)
    }

    /// The addresses of one that was resolved.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        match self {
            Target::Address(address) => std::slice::from_ref(address),
            Target::Addresses(addresses) => addresses,
            Target::Name(..) | Target::Invalid(_) => &[],
        }
    }

    fn of_host(host: &str, port: u16) -> Target {
        match host.parse::<IpAddr>() {
            Ok(ip) => Target::Address(SocketAddr::new(ip, port)),
            Err(_) => Target::Name(host.to_owned(), port),
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("`{text}` is no address: write host:port, `127.0.0.1:80` or `[::1]:80` or `localhost:80`"),
    )
}

impl ToSocketAddrs for str {
    fn target(&self) -> Target {
        if let Ok(address) = self.parse() {
            return Target::Address(address);
        }
        match self.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => Target::of_host(host, port),
            _ => Target::Invalid(self.to_owned()),
        }
    }
}

impl ToSocketAddrs for String {
    fn target(&self) -> Target {
        self.as_str().target()
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn target(&self) -> Target {
        Target::of_host(self.0, self.1)
    }
}

impl ToSocketAddrs for (String, u16) {
    fn target(&self) -> Target {
        Target::of_host(&self.0, self.1)
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn target(&self) -> Target {
        Target::Addresses(self.to_vec())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn target(&self) -> Target {
        (**self).target()
    }
}

macro_rules! addresses {
    ($($type:ty),*) => {
        $(
            impl ToSocketAddrs for $type {
                fn target(&self) -> Target {
                    Target::Address(SocketAddr::from(*self))
                }
            }
        )*
    };
}

addresses!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_names() {
        let address = |text: &str| Target::Address(text.parse().unwrap());
        let check = |target: Target, expected: Target| assert_eq!(target, expected);
        check("127.0.0.1:80".target(), address("127.0.0.1:80"));
        check("[::1]:80".target(), address("[::1]:80"));
        check(("::1", 80).target(), address("[::1]:80"));
        check((String::from("10.0.0.1"), 1).target(), address("10.0.0.1:1"));
        check((Ipv4Addr::LOCALHOST, 1).target(), address("127.0.0.1:1"));
        check("localhost:80".target(), Target::Name("localhost".into(), 80));
        check("localhost".target(), Target::Invalid("localhost".into()));
        check("localhost:http".target(), Target::Invalid("localhost:http".into()));
    }
}
