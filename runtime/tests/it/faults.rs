//! Where resources end: completions beyond their queue, senders beyond the receive buffers.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use annulet::metrics::{Board, Counter};
use annulet::net::{AsyncFd, TcpListener, TcpStream};
use annulet::time::timeout;
use annulet::{Builder, spawn, yield_now};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn ten_thousand_completions_through_a_queue_of_sixteen() {
    const WAITING: usize = 10_000;
    let counted = async || {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let mut writer = File::from(event.try_clone().unwrap());
        let event = Rc::new(AsyncFd::new(event).unwrap());
        let seen = Rc::new(Cell::new(0));
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let (event, seen) = (Rc::clone(&event), Rc::clone(&seen));
            waiting.push(spawn(async move {
                event.readable().await.unwrap();
                seen.set(seen.get() + 1);
            }));
        }
        // Each of them has asked the kernel when the others have had their turns.
        for _ in 0..10 {
            yield_now().await;
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(seen.get(), 0);
        // All polls complete in this moment.
        writer.write_all(&1_u64.to_ne_bytes()).unwrap();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(seen.get(), WAITING);
        // A full queue stands in the counters.
        Board::process().read().iter().map(|row| row.value(Counter::Overflows)).sum::<u64>()
    };
    for mask in ["", "defer_taskrun", "defer_taskrun,coop_taskrun"] {
        let counted = async { timeout(Duration::from_secs(60), counted()).await };
        let overflows = Builder::new().ring_entries(8, 16).ring_mask(mask).run_local(counted).unwrap();
        let overflows = overflows.expect("none is lost");
        assert!(overflows > 0 || !crate::support::has_ring(), "the queue was never full with {mask:?}");
    }
}

/// So many descriptors, if the hard limit allows. The soft one is often 1024.
fn descriptors(wanted: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    enough && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).is_ok()
}

#[test]
fn a_thousand_senders_share_eight_receive_buffers() {
    const BYTES: usize = 20_000;
    let senders: u32 = if descriptors(2300) {
        1000
    } else {
        println!("the hard limit of descriptors is below 2300: 200 senders, not 1000");
        200
    };
    let pattern =
        |place: usize, sender: u32| (place as u32).wrapping_mul(2_654_435_761).wrapping_add(sender) as u8;
    let served = async move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = spawn(async move {
            let mut serving = Vec::new();
            for _ in 0..senders {
                let stream = listener.accept().await.unwrap();
                serving.push(spawn(async move {
                    let mut number = [0; 4];
                    stream.read_exact(&mut number).await.unwrap();
                    let sender = u32::from_ne_bytes(number);
                    let mut place = 0;
                    while place < BYTES {
                        for byte in &stream.recv().await.unwrap().expect("more is to come")[..] {
                            assert_eq!(*byte, pattern(place, sender), "at {place} of {sender}");
                            place += 1;
                        }
                    }
                    stream.write_all(b"all").await.unwrap();
                    assert!(stream.recv().await.unwrap().is_none());
                }));
            }
            for task in serving {
                task.await.unwrap();
            }
        });
        let mut sending = Vec::new();
        for sender in 0..senders {
            let stream = TcpStream::connect(address).await.unwrap();
            sending.push(spawn(async move {
                stream.write_all(&sender.to_ne_bytes()).await.unwrap();
                let bytes: Vec<u8> = (0..BYTES).map(|place| pattern(place, sender)).collect();
                for chunk in bytes.chunks(1777) {
                    stream.write_all(chunk).await.unwrap();
                    yield_now().await;
                }
                let mut answer = [0; 3];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"all");
            }));
        }
        for sender in sending {
            sender.await.unwrap();
        }
        serving.await.unwrap();
        annulet::metrics().buffers_held
    };
    for mask in ["", "receive_multishot", "buffer_ring"] {
        let served = async { timeout(Duration::from_secs(100), served()).await };
        let held = Builder::new().receive_buffers_max(8).ring_mask(mask).run_local(served).unwrap();
        assert_eq!(held.expect("all of it arrives"), 0, "with {mask:?}");
    }
}
