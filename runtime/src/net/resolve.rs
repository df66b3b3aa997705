//! Names to addresses, as the machine is set up to find them.
//!
//! What it does not do: ask name servers itself, or keep answers. getaddrinfo(3) does the work on a thread beside the loop,
//! so /etc/hosts, /etc/nsswitch.conf and /etc/resolv.conf count, and a cache is the machine's own (nscd, systemd-resolved).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::spawn_blocking;

/// The addresses of `host`, each with `port`, in the order in which they should be tried (RFC 6724); never empty.
///
/// An address in text, `127.0.0.1` or `::1` or `[::1]`, is its own answer at once. A name is looked up by getaddrinfo(3) on
/// the [pool of the process](crate::blocking::process_pool), which works on every executor and without one.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let addresses = annulet::net::lookup_host("127.0.0.1", 80).await.unwrap();
///     assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
/// });
/// ```
///
/// # Errors
///
/// A name without an address, a resolver that does not answer, a host with a zero byte. The message names the host.
///
/// # Cancel safety
///
/// Dropping the future gives up the answer. A lookup that runs goes on until the resolver answers or gives up, and
/// occupies a thread of the pool meanwhile.
pub async fn lookup_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = address(host) {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let looked_up = spawn_blocking(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter)).await;
    match looked_up.map_err(io::Error::from).flatten() {
        Ok(addresses) if addresses.is_empty() => Err(explain(host, &io::ErrorKind::NotFound.into())),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(explain(host, &error)),
    }
}

/// An address in text, with or without the brackets of a URL (RFC 3986 section 3.2.2: only IPv6 has them).
fn address(host: &str) -> Option<IpAddr> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn explain(host: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot find an address of `{host}`: {error}; check the name, /etc/hosts and /etc/resolv.conf"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_text() {
        let check = |host: &str, expected: Option<&str>| {
            assert_eq!(address(host).map(|address| address.to_string()).as_deref(), expected, "{host}");
        };
        check("127.0.0.1", Some("127.0.0.1"));
        check("::1", Some("::1"));
        check("[::1]", Some("::1"));
        check("[127.0.0.1]", None);
        check("[::1", None);
        check("localhost", None);
        check("", None);
        // getaddrinfo(3) takes it for 127.0.0.1, as inet_aton(3) does; we leave that to it.
        check("127.1", None);
    }
}
