//! The floor server: the physical limit beside which annulet is measured.
//!
//! It answers every `\r\n\r\n` it receives with one constant response and does nothing else: no parsing, routing,
//! clock, allocation or copy of what it sends. What it costs per request is what this kernel asks for moving the
//! bytes through a well-set-up io_uring; a server that parses can only come close.
//!
//! Start at [`server`], which is the loop. It runs until a signal ends it: SIGINT and SIGTERM keep their default action,
//! because a floor has nothing to finish.

mod answer;
mod buffers;
mod connection;
mod options;
mod ring;
mod server;
mod terminator;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;

use socket2::{Domain, Protocol, Socket, Type};

use crate::options::Options;

/// What the kernel clamps to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("annulet-floor: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("annulet-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    if let Some(core) = options.core {
        pin(core)?;
    }
    raise_descriptor_limit();
    let listener = listen(options)?;
    let mut uring = ring::build()?;
    let server = server::Server::new(&mut uring, &listener, options)?;
    println!("listening on {}", listener.local_addr()?);
    server.run()
}

/// A listener whose connections inherit TCP_NODELAY, so that no call per connection is needed.
fn listen(options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&options.listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds this thread, the only one, to one core.
fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    // SAFETY: `cpu_set_t` is a plain bit array, for which all zeroes is the empty set; `core` is within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes as many descriptors as the hard limit allows. Failing is no error: the table is then merely smaller.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a `rlimit` that lives across them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
