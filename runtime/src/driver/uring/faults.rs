//! What a kernel without memory says, for tests: entries that are refused, or that take a part of what is submitted.
//!
//! For the ring of this thread, from [`inject`] on until its guard is dropped. Seeded, so that a failure can be had again.

#![allow(unsafe_code)]

use std::cell::RefCell;

thread_local! {
    static FAULTS: RefCell<Option<Faults>> = const { RefCell::new(None) };
}

/// What becomes of an entry into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this errno; nothing is taken, nothing posted.
    Refused(i32),
    /// At most so many submissions are taken, and nothing is waited for. The kernel does so when it lacks memory after the first.
    Short(u32),
}

/// Which entries fail.
#[derive(Debug)]
pub(crate) struct Faults {
    fault: Fault,
    /// Of 256 entries.
    of_256: u8,
    seed: u64,
    /// How many there have been.
    count: u64,
}

/// Until it is dropped, entries fail.
#[derive(Debug)]
pub(crate) struct Injected(());

/// Makes `of_256` of 256 entries of this thread fail.
pub(crate) fn inject(fault: Fault, of_256: u8, seed: u64) -> Injected {
    FAULTS.set(Some(Faults { fault, of_256, seed: seed | 1, count: 0 }));
    Injected(())
}

impl Injected {
    /// How many entries have failed.
    pub(crate) fn count(&self) -> u64 {
        FAULTS.with_borrow(|faults| faults.as_ref().map_or(0, |faults| faults.count))
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        FAULTS.set(None);
    }
}

/// What becomes of the next entry, if not what the kernel makes of it.
pub(super) fn next() -> Option<Fault> {
    FAULTS.with_borrow_mut(|faults| {
        let faults = faults.as_mut()?;
        // xorshift64.
        faults.seed ^= faults.seed << 13;
        faults.seed ^= faults.seed >> 7;
        faults.seed ^= faults.seed << 17;
        let fails = (faults.seed >> 32) as u8 <= faults.of_256;
        faults.count += u64::from(fails);
        fails.then_some(faults.fault)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::{Settings, Uring};
    use super::*;
    use crate::driver::{Key, Kind, Op, Wait};
    use crate::net::{AsyncFd, TcpListener, TcpStream};
    use crate::time::{sleep, timeout};
    use crate::{Builder, DriverKind, spawn, yield_now};

    const ERRORS: [i32; 3] = [libc::EAGAIN, libc::EBUSY, libc::ENOMEM];
    /// Until a test is given up: no test needs a hundredth of it.
    const LIMIT: Duration = Duration::from_secs(120);

    /// The faults are the ring's.
    fn with_ring() -> Builder {
        Builder::new().driver(DriverKind::IoUring)
    }

    /// A few streams echo known bytes, a few timers ring, a thread wakes a task.
    async fn all_kinds_of_work() {
        const STREAMS: u32 = 5;
        const BYTES: usize = 60_000;
        let pattern = |place: usize, stream: u32| {
            (place as u32).wrapping_mul(2_654_435_761).wrapping_add(stream).rotate_left(9) as u8
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = Vec::new();
        drop(spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                drop(spawn(async move {
                    while let Ok(Some(lease)) = stream.recv().await {
                        stream.write_all(&lease).await.unwrap();
                    }
                }));
            }
        }));
        for number in 0..STREAMS {
            tasks.push(spawn(async move {
                let reading = Rc::new(TcpStream::connect(address).await.unwrap());
                let writing = Rc::clone(&reading);
                let writer = spawn(async move {
                    let bytes: Vec<u8> = (0..BYTES).map(|place| pattern(place, number)).collect();
                    for chunk in bytes.chunks(7919) {
                        writing.write_all(chunk).await.unwrap();
                        sleep(Duration::from_millis(1)).await;
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
            }));
        }
        tasks.push(spawn(async {
            assert_eq!(crate::blocking::spawn_blocking(|| 7).await.unwrap(), 7);
        }));
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// A silent send that was refused with its entry leaves with a later one; who waits for it by then is told.
    #[test]
    fn a_flush_behind_a_refused_send_ends() {
        with_ring()
            .run_local(async {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let _server = listener.accept().await.unwrap();
                client.with_send_buffer(|buffer| buffer.push(1));
                let injected = inject(Fault::Refused(libc::ENOMEM), 255, 1);
                while injected.count() == 0 {
                    yield_now().await;
                }
                drop(injected);
                let start = Instant::now();
                // Nothing else is there to end a sleep.
                timeout(Duration::from_secs(20), client.flush()).await.unwrap().unwrap();
                assert!(start.elapsed() < Duration::from_secs(10), "the flush was told by chance");
            })
            .unwrap();
    }

    #[test]
    fn refused_entries_are_not_fatal_and_lose_nothing() {
        for fault in ERRORS.map(Fault::Refused).into_iter().chain([Fault::Short(1), Fault::Short(0)]) {
            for (seed, entries) in [(1, (2, 4)), (2, (8, 16)), (3, (64, 512))] {
                let injected = Rc::new(Cell::new(None));
                let kept = Rc::clone(&injected);
                let worked = async move {
                    // The ring is there; from here to the end of its loop every second entry fails.
                    kept.set(Some(inject(fault, 128, seed)));
                    timeout(LIMIT, all_kinds_of_work()).await
                };
                let builder = with_ring().ring_entries(entries.0, entries.1).receive_buffers_max(8);
                let worked = builder.run_local(worked).unwrap();
                worked.unwrap_or_else(|_| panic!("{fault:?} with {entries:?}: something is lost"));
                let count = injected.take().expect("it was put there").count();
                assert!(count > 10, "{fault:?}: {count} entries have failed");
            }
        }
    }

    #[test]
    fn a_kernel_that_refuses_for_long_is_left_alone_and_then_everything_goes_on() {
        for fault in ERRORS.map(Fault::Refused) {
            let worked = async move {
                let injected = inject(fault, u8::MAX, 1);
                let busy = spawn(all_kinds_of_work());
                let begun = Instant::now();
                // Refused so long: timers need no entry.
                sleep(Duration::from_millis(300)).await;
                let (count, took) = (injected.count(), begun.elapsed());
                assert!(!busy.is_finished());
                drop(injected);
                timeout(LIMIT, busy).await.expect("nothing is lost").unwrap();
                (count, took)
            };
            let (count, took) = with_ring().run_local(worked).unwrap();
            // About one a millisecond at the most, where there were some hundred thousand without the rests.
            let most = 2 * took.as_millis() as u64;
            assert!((2..most).contains(&count), "{fault:?}: {count} entries in {took:?}");
        }
    }

    /// What the kernel has deferred is posted although it takes no submission: it may be what there is no memory for.
    #[test]
    fn completions_come_while_submissions_are_refused() {
        for fault in ERRORS.map(Fault::Refused) {
            let mut uring = Uring::new(&Settings::default()).unwrap();
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
            let key = Key::new(Kind::Op, 7, 7);
            let op = Op::Poll { fd: event.as_raw_fd(), events: libc::POLLIN as u32, multishot: false };
            // SAFETY: neither this nor the cancellation below points to memory.
            unsafe { uring.push(op, key) };
            uring.wait(Wait::No).unwrap();
            assert!(uring.next_event().is_none());
            let _injected = inject(fault, u8::MAX, 1);
            rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
            // SAFETY: as above.
            unsafe { uring.push(Op::Cancel { target: Key::ALARM }, Key::IGNORED) };
            uring.wait(Wait::No).unwrap();
            assert_eq!(uring.next_event().map(|event| event.key), Some(key), "{fault:?}");
        }
    }

    /// The loop ends: whoever waits for what is lost would wait for ever.
    #[test]
    fn lost_completions_are_an_error_that_says_what_to_do() {
        let ended = std::panic::catch_unwind(|| {
            let ended = async {
                let _injected = inject(Fault::Refused(libc::EBADR), u8::MAX, 1);
                sleep(Duration::from_millis(1)).await;
            };
            with_ring().run_local(ended)
        });
        let message = *ended.expect_err("it cannot go on").downcast::<String>().unwrap();
        for word in ["completions are lost", "memory", "ring_entries"] {
            assert!(message.contains(word), "{message:?} does not say {word:?}");
        }
    }

    #[test]
    fn a_full_completion_queue_and_refusals_lose_nothing() {
        const WAITING: usize = 1000;
        let counted = async {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
            let mut writer = File::from(event.try_clone().unwrap());
            let event = Rc::new(AsyncFd::new(event).unwrap());
            let _injected = inject(Fault::Refused(libc::EBUSY), 128, 7);
            let mut waiting = Vec::new();
            for _ in 0..WAITING {
                let event = Rc::clone(&event);
                waiting.push(spawn(async move {
                    event.readable().await.unwrap();
                }));
            }
            for _ in 0..10 {
                yield_now().await;
                sleep(Duration::from_millis(1)).await;
            }
            writer.write_all(&1_u64.to_ne_bytes()).unwrap();
            for task in waiting {
                task.await.unwrap();
            }
        };
        let counted = async { timeout(LIMIT, counted).await };
        with_ring().ring_entries(8, 16).run_local(counted).unwrap().expect("none is lost");
    }
}
