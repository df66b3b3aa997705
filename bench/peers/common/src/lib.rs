//! What the peers share: the command line, pinning, the listener, the pages, and HTTP/1.1 without I/O for those that are a
//! runtime only.
//!
//! Frameworks that bring their own HTTP use theirs; nothing here is between them and the socket.

pub mod http1;
pub mod page;

use std::net::{SocketAddr, TcpListener};
use std::{process, thread};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for an accept, as in annulet's own listeners; the kernel cuts it to somaxconn.
const BACKLOG: i32 = 4096;

/// `--listen ADDR --cores LIST`.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub cores: Vec<usize>,
}

/// Reads the command line and confines the process to its cores. Threads started afterwards inherit that.
pub fn options() -> Options {
    let mut listen = "127.0.0.1:8000".to_owned();
    let mut cores = "0".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| usage());
        match argument.as_str() {
            "--listen" => listen = value,
            "--cores" => cores = value,
            _ => usage(),
        }
    }
    let options = Options {
        listen: listen.parse().unwrap_or_else(|_| usage()),
        cores: cores.split(',').flat_map(core_range).collect(),
    };
    pin(&options.cores);
    options
}

fn core_range(part: &str) -> std::ops::RangeInclusive<usize> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..=last,
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("usage: --listen ADDRESS:PORT --cores LIST (such as 0,2-3)");
    process::exit(2);
}

/// Confines the calling thread to these cores.
pub fn pin(cores: &[usize]) {
    // SAFETY: an all-zero set is a valid one, and CPU_SET writes inside of it for every core below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &core in cores {
            assert!(core < libc::CPU_SETSIZE as usize, "there is no core {core}");
            libc::CPU_SET(core, &mut set);
        }
        let size = size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_setaffinity(0, size, &set), 0, "cannot pin to {cores:?}");
    }
}

/// A listener that shares its port with those of the other cores.
pub fn listener(address: SocketAddr) -> TcpListener {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit it, so that none needs a system call of its own.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    };
    bound().unwrap_or_else(|error| {
        eprintln!("cannot listen on {address}: {error}");
        process::exit(1);
    })
}

/// One pinned thread per core, each with a listener of its own; returns when the last has ended.
pub fn on_each_core(options: &Options, run: fn(TcpListener)) {
    let threads: Vec<_> = options
        .cores
        .iter()
        .map(|&core| {
            let listener = listener(options.listen);
            thread::spawn(move || {
                pin(&[core]);
                run(listener);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a core's thread panicked");
    }
}
