//! What loops stand on: the ring, or epoll where there is none.

use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::{Builder, Capabilities, DriverKind};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Sends bytes through two sockets of this loop, waits for time, for a file and for a child; says on what.
async fn program() -> (String, Capabilities) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = annulet::spawn(async move {
        let stream = listener.accept().await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        annulet::time::sleep(Duration::from_millis(1)).await;
        stream.write_all(&word).await.unwrap();
        stream.flush().await.unwrap();
    });
    let stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    let word = String::from_utf8(word.to_vec()).unwrap();
    echo.await.unwrap();
    let manifest = annulet::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).await.unwrap();
    assert!(manifest.starts_with(b"[package]"));
    assert!(annulet::process::Command::new("true").status().await.unwrap().success());
    (word, annulet::capabilities())
}

#[test]
fn the_same_program_runs_on_either_driver() {
    for driver in [DriverKind::IoUring, DriverKind::Epoll] {
        let (word, capabilities) = Builder::new().driver(driver).run_local(program()).unwrap();
        assert_eq!((word.as_str(), capabilities.driver()), ("hello", driver));
    }
}

/// io_uring_setup(2), the same number on every architecture but Alpha.
const IO_URING_SETUP: i64 = 425;

/// Runs `body` on a thread to which io_uring_setup(2) is forbidden.
fn without_rings<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let forbidden = || {
        let rules = [(IO_URING_SETUP, vec![])].into_iter().collect();
        let refuse = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error() as u32);
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            refuse,
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        apply_filter(&program).unwrap();
    };
    std::thread::spawn(move || {
        forbidden();
        body()
    })
    .join()
    .unwrap()
}

#[test]
fn where_rings_are_forbidden_loops_stand_on_epoll() {
    if std::env::var_os("ANNULET_DRIVER").is_some() {
        eprintln!(
            "skipped: ANNULET_DRIVER chooses the driver, and this is about loops for which nobody does"
        );
        return;
    }
    let (word, capabilities) = without_rings(|| annulet::run(program()));
    assert_eq!((word.as_str(), capabilities.driver()), ("hello", DriverKind::Epoll));
}

#[test]
fn who_asks_for_a_ring_where_there_is_none_is_told_why() {
    let error = without_rings(|| Builder::new().driver(DriverKind::IoUring).run_local(async {}).unwrap_err());
    let error = error.to_string();
    assert!(error.contains("seccomp") && error.contains("io_uring_setup"), "{error}");
}

#[test]
fn a_listener_whose_mode_somebody_changes_is_waited_for_on_either_driver() {
    for driver in [DriverKind::IoUring, DriverKind::Epoll] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // As another process that has the socket would.
        let other = listener.try_clone().unwrap();
        let served = Builder::new().driver(driver).run_local(async {
            let listener = TcpListener::from_std(listener).unwrap();
            for nonblocking in [true, false, true, false] {
                other.set_nonblocking(nonblocking).unwrap();
                let client = annulet::spawn(async move { TcpStream::connect(address).await.unwrap() });
                drop((listener.accept().await.unwrap(), client.await.unwrap()));
                // A loop that slept in accept(2) would not see the time limit either.
                other.set_nonblocking(nonblocking).unwrap();
                let nobody = annulet::time::timeout(Duration::from_millis(5), listener.accept()).await;
                assert!(nobody.is_err());
            }
            "all of them"
        });
        assert_eq!(served.unwrap(), "all of them", "{driver}");
    }
}

/// A connection that has moved to another loop lives on; what it receives there is no event of this loop's.
#[test]
fn a_connect_is_not_done_because_a_file_that_had_its_number_is_readable() {
    Builder::new()
        .driver(DriverKind::Epoll)
        .run_local(async {
            let queue = annulet::net::TcpSocket::new_v4().unwrap();
            queue.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let full = queue.local_addr().unwrap();
            let _queue = queue.listen(0).unwrap();
            let _first = std::net::TcpStream::connect(full).unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            let number = std::os::fd::AsRawFd::as_raw_fd(&stream);
            // Its receive waits, and is given up.
            assert!(
                annulet::time::timeout(Duration::from_millis(2), stream.read(&mut [0; 1])).await.is_err()
            );
            let departed = stream.depart().await.unwrap();
            // A connect that goes on for long: to a queue that is full. It gets the number, as the lowest that is free.
            let socket = annulet::net::TcpSocket::new_v4().unwrap();
            if std::os::fd::AsRawFd::as_raw_fd(&socket) != number {
                eprintln!("skipped: another thread has taken the number of the descriptor");
                return;
            }
            let connect = annulet::spawn(async move {
                annulet::time::timeout(Duration::from_millis(200), socket.connect(full)).await
            });
            annulet::time::sleep(Duration::from_millis(5)).await;
            std::io::Write::write_all(&mut peer, b"x").unwrap();
            let connected = connect.await.unwrap();
            assert!(!matches!(connected, Ok(Ok(_))), "connected to nobody");
            drop(departed);
        })
        .unwrap();
}

#[test]
fn a_mask_takes_silent_sends_from_epoll_too() {
    for mask in ["", "skip_success", "accept_multishot"] {
        let builder = Builder::new().driver(DriverKind::Epoll).ring_mask(mask);
        assert_eq!(builder.run_local(program()).unwrap().0, "hello", "{mask}");
    }
}
