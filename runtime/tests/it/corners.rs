//! Corners that were wrong once, or would be easy to get wrong.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::time::{sleep, timeout};
use annulet::{spawn, yield_now};

use crate::shutdown::leaves_nothing;
use crate::support::pair;

#[test]
fn a_task_may_wake_itself_in_its_last_poll() {
    annulet::run(async {
        let task = spawn(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(7)
        }));
        yield_now().await;
        yield_now().await;
        assert_eq!(task.await.unwrap(), 7);
    });
}

#[test]
fn a_task_that_aborts_itself_in_its_last_poll_keeps_its_result() {
    annulet::run(async {
        let slot: Rc<RefCell<Option<annulet::JoinHandle<i32>>>> = Rc::default();
        let inner = Rc::clone(&slot);
        let task = spawn(async move {
            inner.borrow().as_ref().unwrap().abort();
            7
        });
        *slot.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        let handle = slot.borrow_mut().take().unwrap();
        assert!(handle.is_finished());
        assert_eq!(handle.await.unwrap(), 7);
    });
}

#[test]
fn a_slot_that_is_used_again_polls_the_new_task_only_when_it_is_woken() {
    annulet::run(async {
        // Woken in its last poll and detached: its slot is free while its number is still in the queue.
        drop(spawn(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })));
        let polls = Rc::new(std::cell::Cell::new(0));
        let counter = Rc::clone(&polls);
        let waiting = spawn(poll_fn(move |_| {
            counter.set(counter.get() + 1);
            Poll::<()>::Pending
        }));
        for _ in 0..5 {
            yield_now().await;
        }
        assert_eq!(polls.get(), 1);
        waiting.abort();
    });
}

#[test]
fn lent_bytes_leave_once_and_come_back_whatever_is_written_meanwhile() {
    annulet::run(async {
        let (a, b) = pair().await;
        let mut sending = Box::pin(a.send(b"LENT".to_vec()));
        poll_fn(|cx| {
            assert!(sending.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        a.with_send_buffer(|buffer| buffer.extend_from_slice(b"gathered"));
        // The send completes, and nobody asks for the bytes for many turns.
        sleep(Duration::from_millis(10)).await;
        let (result, back) = sending.await;
        result.unwrap();
        assert_eq!(back, b"LENT");
        let mut all = [0; 12];
        b.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"LENTgathered");
    });
}

#[test]
fn one_task_lends_while_another_writes() {
    annulet::run(async {
        let (a, b) = pair().await;
        let a = Rc::new(a);
        let other = Rc::clone(&a);
        let reader = spawn(async move {
            let mut counts = [0_usize; 256];
            while let Some(lease) = b.recv().await.unwrap() {
                lease.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
            }
            counts
        });
        let writer = spawn(async move {
            yield_now().await;
            other.write_all(&[b'w'; 40 * 1024]).await.unwrap();
        });
        let (result, back) = timeout(Duration::from_secs(5), a.send(vec![b'L'; 1000])).await.unwrap();
        result.unwrap();
        assert_eq!(back, vec![b'L'; 1000]);
        writer.await.unwrap();
        drop(a);
        let counts = reader.await.unwrap();
        assert_eq!((counts[usize::from(b'L')], counts[usize::from(b'w')]), (1000, 40 * 1024));
    });
}

#[test]
fn a_second_lender_is_told_to_wait() {
    annulet::run(async {
        let (a, b) = pair().await;
        let a = Rc::new(a);
        let other = Rc::clone(&a);
        let reader = spawn(async move { while b.recv().await.unwrap().is_some() {} });
        // More than the socket takes at once, so that it is still under way.
        let first = spawn(async move { other.send(vec![1; 8 << 20]).await.0 });
        yield_now().await;
        let (result, back) = a.send(vec![2; 1000]).await;
        assert_eq!((result.unwrap_err().kind(), back.len()), (std::io::ErrorKind::ResourceBusy, 1000));
        timeout(Duration::from_secs(5), first).await.unwrap().unwrap().unwrap();
        drop(a);
        reader.await.unwrap();
    });
}

#[test]
fn a_send_buffer_may_be_used_inside_of_itself() {
    annulet::run(async {
        let (a, b) = pair().await;
        a.with_send_buffer(|outer| {
            outer.push(b'1');
            a.with_send_buffer(|inner| inner.push(b'2'));
            // Its place among these would not be known.
            assert!(a.try_send_bytes(bytes::Bytes::from_static(b"4")).is_err());
            outer.push(b'3');
        });
        let mut all = [0; 3];
        b.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"132");
    });
}

/// A connection whose reader holds every buffer of a small pool.
async fn hold(buffers: usize) -> (Vec<annulet::Lease>, TcpStream, TcpStream) {
    let (a, b) = pair().await;
    let mut leases = Vec::new();
    for _ in 0..buffers {
        a.write_all(b"x").await.unwrap();
        leases.push(b.recv().await.unwrap().unwrap());
    }
    assert_eq!(annulet::metrics().buffers_held, buffers);
    (leases, a, b)
}

#[test]
fn a_starved_stream_with_bytes_is_not_kept_waiting_by_one_without() {
    let builder = annulet::Builder::new().receive_buffers_max(2);
    builder
        .run_local(async {
            let (mut leases, _a, _b) = hold(2).await;
            let (_idle_a, idle_b) = pair().await;
            let (live_a, live_b) = pair().await;
            idle_b.start_recv();
            sleep(Duration::from_millis(5)).await;
            live_b.start_recv();
            sleep(Duration::from_millis(5)).await;
            live_a.write_all(b"hello").await.unwrap();
            sleep(Duration::from_millis(5)).await;
            leases.pop();
            let got = timeout(Duration::from_secs(2), live_b.recv()).await;
            assert_eq!(&got.expect("a buffer is free").unwrap().unwrap()[..], b"hello");
        })
        .unwrap();
}

#[test]
fn a_starved_stream_that_was_dropped_takes_nobodys_turn() {
    let builder = annulet::Builder::new().receive_buffers_max(1);
    builder
        .run_local(async {
            let (mut leases, _a, _b) = hold(1).await;
            let (_gone_a, gone_b) = pair().await;
            let (live_a, live_b) = pair().await;
            gone_b.start_recv();
            sleep(Duration::from_millis(5)).await;
            live_b.start_recv();
            sleep(Duration::from_millis(5)).await;
            live_a.write_all(b"hello").await.unwrap();
            sleep(Duration::from_millis(5)).await;
            drop(gone_b);
            leases.pop();
            let got = timeout(Duration::from_secs(2), live_b.recv()).await;
            assert_eq!(&got.expect("a buffer is free").unwrap().unwrap()[..], b"hello");
        })
        .unwrap();
}

#[test]
fn a_waker_that_panics_does_not_keep_the_loop_from_ending_in_order() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose, in a waker");
        }
    }
    leaves_nothing(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = std::panic::catch_unwind(|| {
            annulet::run(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.start_recv();
                let mut task = spawn(async move {
                    let _stream = stream;
                    pending::<()>().await;
                });
                yield_now().await;
                let waker = Waker::from(Arc::new(Panics));
                assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
                std::mem::forget(task);
            });
        });
        assert!(ended.is_err(), "the panic is passed on");
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(std::io::Read::read(&mut peer, &mut [0; 8]).unwrap(), 0, "the socket was closed");
    });
}

#[test]
fn drops_that_spawn_at_the_end_leave_nothing() {
    struct Goodbye(Option<TcpStream>);
    impl Drop for Goodbye {
        fn drop(&mut self) {
            if let Some(stream) = self.0.take() {
                drop(spawn(async move {
                    let _ = stream.close(Duration::from_secs(1)).await;
                }));
            }
        }
    }
    leaves_nothing(|| {
        annulet::run(async {
            for _ in 0..2 {
                let (a, b) = pair().await;
                let (a, b) = (Goodbye(Some(a)), Goodbye(Some(b)));
                spawn(async move {
                    let _both = (a, b);
                    pending::<()>().await;
                });
            }
            yield_now().await;
        });
    });
}

#[test]
fn a_result_that_nobody_took_does_not_hold_the_loop() {
    leaves_nothing(|| {
        let mut handle = None;
        annulet::run(async {
            let (stream, _peer) = pair().await;
            handle = Some(spawn(async move { stream }));
            yield_now().await;
            yield_now().await;
        });
        assert!(handle.unwrap().is_finished());
    });
}

#[test]
fn wakers_of_the_stop_signal_are_dropped_outside_of_its_lock() {
    struct Holder(#[expect(dead_code, reason = "held to be dropped")] Mutex<Option<annulet::Stopped>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let core = annulet::placement::available_cores().unwrap()[0];
        let loops = annulet::Builder::new().cores([core]).start(|core| async move {
            let (mut one, mut two) = (core.stopped(), core.stopped());
            assert!(Pin::new(&mut two).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let waker = Waker::from(Arc::new(Holder(Mutex::new(Some(two)))));
            assert!(Pin::new(&mut one).poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(one);
        });
        loops.unwrap().join().unwrap();
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(5)).expect("no deadlock");
}

#[test]
fn a_loop_inside_a_loop_is_refused_and_leaves_nothing() {
    leaves_nothing(|| {
        annulet::run(async {
            let refused = std::panic::catch_unwind(|| annulet::run(async {}));
            assert!(refused.unwrap_err().downcast::<&str>().unwrap().contains("inside a running loop"));
        });
    });
}

/// Sixty streams echo known bytes through tiny queues, so that each is full at some time.
fn echo_through(submission: u32, completion: u32, mask: &'static str) {
    const STREAMS: u32 = 60;
    const BYTES: usize = 200_000;
    let pattern = |place: usize, stream: u32| {
        (place as u32).wrapping_mul(2_654_435_761).wrapping_add(stream).rotate_left(9) as u8
    };
    let builder =
        annulet::Builder::new().ring_entries(submission, completion).ring_mask(mask).receive_buffers_max(40);
    let echoed = async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                spawn(async move {
                    while let Ok(Some(lease)) = stream.recv().await {
                        if stream.write_ready().await.is_err() {
                            break;
                        }
                        stream.with_send_buffer(|buffer| buffer.extend_from_slice(&lease));
                    }
                });
            }
        });
        let clients: Vec<_> = (0..STREAMS)
            .map(|number| {
                spawn(async move {
                    let reading = Rc::new(TcpStream::connect(address).await.unwrap());
                    let writing = Rc::clone(&reading);
                    let writer = spawn(async move {
                        let mut place = 0;
                        while place < BYTES {
                            let count = (1 + (place * 7919 + number as usize) % 30_000).min(BYTES - place);
                            let chunk: Vec<u8> =
                                (place..place + count).map(|place| pattern(place, number)).collect();
                            writing.write_all(&chunk).await.unwrap();
                            place += count;
                        }
                    });
                    let mut place = 0;
                    while place < BYTES {
                        for byte in &reading.recv().await.unwrap().expect("more is to come")[..] {
                            assert_eq!(*byte, pattern(place, number), "at {place} of {number}");
                            place += 1;
                        }
                    }
                    writer.await.unwrap();
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    };
    let limited = async { timeout(Duration::from_secs(60), echoed).await };
    builder.run_local(limited).unwrap().expect("all of it comes back");
}

#[test]
fn tiny_queues_lose_nothing() {
    echo_through(2, 2, "");
    echo_through(4, 4, "submit_all");
    echo_through(8, 16, "skip_success");
}
