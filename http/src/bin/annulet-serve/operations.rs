//! What those who run the server ask for: the admin listener, descriptors, sockets and rings. As flags, and what they do.
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use annulet::net::{Keepalive, ListenOptions, bind_one};
use annulet::{Builder, Readiness};
use annulet_http::admin::{Admin, Running};
use annulet_http::{ForwardingField, Network, Server};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{parse_address, parse_at_most, parse_duration};

/// Probes without an answer after which --tcp-keepalive gives a client up.
const PROBES: u32 = 3;

/// MAX_TCP_KEEPIDLE of Linux's tcp.h; what is longer is EINVAL.
const KEEPALIVE_IDLE_MAX: Duration = Duration::from_secs(32_767);

/// TCP_USER_TIMEOUT is a C int of milliseconds. Whole seconds of it read better.
const USER_TIMEOUT_MAX: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

/// How the server is run.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Operation")]
pub(crate) struct OperationOptions {
    /// Answer /metrics, /tasks, /livez and /readyz here, e.g. 127.0.0.1:9100. Nobody is asked for a password: keep it to yourself. Of
    /// worker processes it has the counters; /tasks and process_* are its own. SIGUSR1 has them print their tasks.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    admin: Option<SocketAddr>,

    /// Say so when a turn of a loop takes longer, e.g. 50ms, and which task did it. 0ms: never.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    stall_limit: Duration,

    /// Take connections of these proxies only, e.g. 10.0.0.0/8,::1, each with a PROXY header (version 1 or 2) at its beginning, as
    /// HAProxy's send-proxy writes it. 0.0.0.0/0 is everybody.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    proxy_protocol: Vec<Network>,

    /// Believe what these proxies say of the client, e.g. 10.0.0.0/8,::1, in X-Forwarded-For and X-Forwarded-Proto.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    trusted_proxies: Vec<Network>,

    /// The trusted proxies write Forwarded (RFC 7239) instead.
    #[arg(long, requires = "trusted_proxies")]
    forwarded: bool,

    /// Connections that may wait to be accepted, on each socket; the kernel takes no more than net.core.somaxconn.
    #[arg(long, value_name = "COUNT", default_value_t = ListenOptions::default().backlog)]
    backlog: u32,

    /// Leave Nagle's algorithm on (no TCP_NODELAY).
    #[arg(long)]
    no_tcp_nodelay: bool,

    /// Probe clients that were silent for so long, three times at a third of it, e.g. 60s. 0s: never.
    #[arg(long, value_name = "TIME", default_value = "0s",
          value_parser = |text: &str| parse_at_most(text, KEEPALIVE_IDLE_MAX))]
    tcp_keepalive: Duration,

    /// Give a connection up when what was sent is not acknowledged for so long, e.g. 20s. 0s: the kernel decides.
    #[arg(long, value_name = "TIME", default_value = "0s",
          value_parser = |text: &str| parse_at_most(text, USER_TIMEOUT_MAX))]
    tcp_user_timeout: Duration,

    /// Serve IPv4 too on IPv6 addresses such as `[::]:80`.
    #[arg(long)]
    dual_stack: bool,

    /// Let the rings do what the server never asks of them.
    #[arg(long)]
    no_ring_restrictions: bool,
}

impl OperationOptions {
    /// The options of listening sockets.
    pub(crate) fn listen_options(&self) -> ListenOptions {
        let or_none = |time: Duration| (!time.is_zero()).then_some(time);
        ListenOptions {
            backlog: self.backlog,
            nodelay: !self.no_tcp_nodelay,
            keepalive: or_none(self.tcp_keepalive).map(|idle| Keepalive {
                idle: idle.max(Duration::from_secs(1)),
                interval: (idle / PROBES).max(Duration::from_secs(1)),
                probes: PROBES,
            }),
            user_timeout: or_none(self.tcp_user_timeout),
            only_v6: !self.dual_stack,
        }
    }

    /// Refuses what does not go together.
    ///
    /// # Errors
    ///
    /// A PROXY header before TLS.
    pub(crate) fn check(&self, is_secure: bool) -> io::Result<()> {
        if !self.proxy_protocol.is_empty() && is_secure {
            let text =
                "--proxy-protocol is for plain connections: the header would stand before the TLS handshake";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }

    /// Tells a server who its clients are.
    pub(crate) fn with_clients(&self, mut server: Server) -> Server {
        if !self.proxy_protocol.is_empty() {
            server = server.with_proxy_protocol(self.proxy_protocol.iter().copied());
        }
        if !self.trusted_proxies.is_empty() {
            let field = if self.forwarded { ForwardingField::Forwarded } else { ForwardingField::XForwarded };
            server = server.with_trusted_proxies(self.trusted_proxies.iter().copied(), field);
        }
        server
    }

    /// Tells the loops.
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        builder
            .listen_options(self.listen_options())
            .ring_restrictions(!self.no_ring_restrictions)
            .stall_limit((!self.stall_limit.is_zero()).then_some(self.stall_limit))
    }

    /// The socket of the admin listener.
    ///
    /// # Errors
    ///
    /// As [`bind_one`].
    pub(crate) fn bind_admin(&self) -> io::Result<Option<TcpListener>> {
        self.warn_of_admin();
        self.admin.map(bind_one).transpose()
    }

    /// Serves the admin targets beside workers that are watched over.
    pub(crate) fn admin_beside(&self, builder: Builder) -> Builder {
        let Some(address) = self.admin else { return builder };
        builder.beside(address, |mut beside| async move {
            let Some(listener) = beside.take_listener() else { return };
            let admin = Admin::new(beside.readiness().clone()).with_board(beside.board().clone());
            if let Err(error) = admin.serve(listener, beside.stopped()).await {
                eprintln!("annulet-serve: the admin listener has ended: {error}");
                // Another one would fare no better.
                beside.stopped().await;
            }
        })
    }

    /// Where others may reach it.
    pub(crate) fn warn_of_admin(&self) {
        let Some(address) = self.admin else { return };
        if !address.ip().to_canonical().is_loopback() {
            eprintln!(
                "annulet-serve: --admin {address} is no loopback address: whoever reaches it reads counters and tasks"
            );
        }
    }
}

/// Serves the admin targets on `listener`, if there is one, and says where.
///
/// # Errors
///
/// As [`Admin::start`].
pub(crate) fn start_admin(
    listener: Option<TcpListener>,
    readiness: &Readiness,
) -> io::Result<Option<Running>> {
    let Some(listener) = listener else { return Ok(None) };
    let running = Admin::new(readiness.clone()).start(listener)?;
    println!("admin on http://{}/", running.address());
    Ok(Some(running))
}

/// Raises the limit of descriptors to what this process may have at the most; each connection takes one. Gives a line about it.
pub(crate) fn raise_descriptors() -> String {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let told = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    if current == maximum {
        format!("descriptors {}", told(current))
    } else if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        format!("descriptors {}, raised from {}", told(maximum), told(current))
    } else {
        format!("descriptors {} (could not be raised to {})", told(current), told(maximum))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Options;

    #[test]
    fn sockets() {
        let check = |line: &str, expected: ListenOptions| {
            let words = std::iter::once("annulet-serve").chain(line.split_whitespace());
            let options = Options::try_parse_from(words).unwrap();
            assert_eq!(options.operations.listen_options(), expected, "{line}");
        };
        let default = ListenOptions::default;
        check("", default());
        check("--backlog 5 --no-tcp-nodelay", ListenOptions { backlog: 5, nodelay: false, ..default() });
        check("--dual-stack", ListenOptions { only_v6: false, ..default() });
        let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(20));
        let keepalive = Some(Keepalive { idle, interval, probes: 3 });
        check("--tcp-keepalive 60s", ListenOptions { keepalive, ..default() });
        let user_timeout = Some(Duration::from_millis(1500));
        check("--tcp-user-timeout 1500ms", ListenOptions { user_timeout, ..default() });
    }

    #[test]
    fn times_that_the_kernel_takes_and_no_longer_ones() {
        for (flag, most) in [("--tcp-keepalive", 32_767), ("--tcp-user-timeout", 2_147_483)] {
            let parse = |seconds: u32| {
                let words = ["annulet-serve", flag, &format!("{seconds}s")].map(str::to_owned);
                Options::try_parse_from(words)
            };
            let listen = parse(most).unwrap().operations.listen_options();
            listen.bind_group(([127, 0, 0, 1], 0).into(), 1).unwrap();
            for seconds in [most + 1, 99_999_999] {
                let said = parse(seconds).unwrap_err().to_string();
                assert!(said.contains(flag) && said.contains(&format!("at most {most}s")), "{said}");
            }
        }
    }
}
