//! The way out: nothing is left behind, whatever was in flight.

use std::future::pending;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::spawn;

use crate::support::{descriptors, ends, pair, poll_once};

/// Runs `body` a few times and checks that no descriptor is left over.
pub(crate) fn leaves_nothing(body: impl Fn()) {
    body();
    let before = descriptors();
    for _ in 0..5 {
        body();
    }
    // Other tests of this process open descriptors at the same time, now more, now fewer; a leak is there in every round, and
    // stays. So it is waited for a moment in which there are about as many as before.
    for _ in 0..1500 {
        if descriptors() <= before + 4 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} descriptors before, {} after", before, descriptors());
}

#[test]
fn a_loop_ends_with_everything_in_flight() {
    leaves_nothing(|| {
        annulet::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            spawn(async move {
                loop {
                    let stream = listener.accept().await.unwrap();
                    spawn(async move {
                        let _ = stream.recv().await;
                        pending::<()>().await;
                    });
                }
            });
            let (client, server) = pair().await;
            spawn(async move {
                let _ = server.recv().await;
            });
            spawn(async move {
                client.with_send_buffer(|buffer| buffer.resize(8 << 20, 0));
                pending::<()>().await;
            });
            for _ in 0..20 {
                let stream = TcpStream::connect(address).await.unwrap();
                spawn(async move {
                    stream.write_all(b"x").await.unwrap();
                    let _ = stream.recv().await;
                });
            }
            spawn(annulet::time::sleep(Duration::from_secs(1000)));
        });
    });
}

#[test]
fn streams_may_outlive_their_loop() {
    let (client, server) = annulet::run(pair());
    assert_eq!(client.send_buffered(), 0);
    assert!(client.try_recv().is_none());
    assert!(client.local_addr().is_err());
    client.with_send_buffer(|buffer| buffer.push(1));
    drop((client, server));
}

#[test]
fn a_lease_may_outlive_its_loop() {
    let lease = annulet::run(async {
        let (client, server) = pair().await;
        client.write_all(b"kept").await.unwrap();
        server.recv().await.unwrap().unwrap()
    });
    assert_eq!(&lease[..], b"kept");
}

#[test]
fn handles_may_outlive_their_loop() {
    let mut handle = None;
    annulet::run(async { handle = Some(spawn(pending::<()>())) });
    let handle = handle.unwrap();
    assert!(handle.is_finished());
    handle.abort();
    annulet::run(async move {
        assert!(handle.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_panic_of_the_main_future_ends_the_loop_in_order() {
    leaves_nothing(|| {
        let _ = std::panic::catch_unwind(|| {
            annulet::run(async {
                let (client, server) = pair().await;
                spawn(async move {
                    let _ = server.recv().await;
                });
                client.write_all(b"x").await.unwrap();
                panic!("on purpose");
            });
        });
    });
}

#[test]
fn loops_on_threads_start_and_stop() {
    let loops = annulet::Builder::new()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(|mut core| async move {
            let listener = core.take_listeners().pop().unwrap();
            let stopped = core.stopped();
            spawn(async move {
                while let Ok(stream) = listener.accept().await {
                    stream.write_all(b"hello").await.unwrap();
                }
            });
            stopped.await;
        })
        .unwrap();
    let address = loops.addresses()[0];
    for _ in 0..50 {
        let mut word = String::new();
        std::io::Read::read_to_string(&mut std::net::TcpStream::connect(address).unwrap(), &mut word)
            .unwrap();
        assert_eq!(word, "hello");
    }
    loops.stop();
    loops.join().unwrap();
}

#[test]
fn a_thread_may_run_many_loops_one_after_the_other() {
    for _ in 0..40 {
        let capabilities = annulet::run(async { annulet::capabilities() });
        assert!(
            capabilities.has(annulet::Feature::RingFd) || masked("ring_fd") || !crate::support::has_ring()
        );
    }
}

/// Whether the test runs without a feature on purpose.
fn masked(feature: &str) -> bool {
    std::env::var("ANNULET_RING_MASK").is_ok_and(|mask| mask.split(',').any(|name| name == feature))
}

#[test]
fn a_write_that_nobody_waits_for_is_given_up_when_the_loop_ends() {
    use annulet::fs::File;
    use std::os::fd::OwnedFd;

    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let written = annulet::run(async move {
        let mut file = File::from_std(std::fs::File::from(OwnedFd::from(writer)));
        // Fills the pipe, so the next one waits for a reader.
        let fits = file.write(&[1; 65_536]).await.unwrap();
        assert!(poll_once(&mut Box::pin(file.write(&[2; 65_536]))).await.is_none());
        fits
    });
    let mut bytes = vec![0; written];
    std::io::Read::read_exact(&mut reader, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 1));
    // A loop that was leaked would keep the writing end open.
    ends(&mut reader);
}
