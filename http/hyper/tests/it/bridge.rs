//! hyper's runtime traits by themselves.
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_hyper::{Io, LoopTimer};
use hyper::rt::Timer;

use crate::support::run;

#[annulet::test(start_paused = true)]
async fn sleeps_are_those_of_the_loop() {
    let start = LoopTimer.now();
    LoopTimer.sleep(Duration::from_secs(3600)).await;
    assert_eq!(LoopTimer.now() - start, Duration::from_secs(3600));
    let mut sleep = LoopTimer.sleep(Duration::from_secs(1));
    let before = std::ptr::from_ref(&*sleep).cast::<()>();
    LoopTimer.reset(&mut sleep, start + Duration::from_secs(7200));
    assert_eq!(std::ptr::from_ref(&*sleep).cast::<()>(), before, "the same box");
    sleep.await;
    assert_eq!(LoopTimer.now() - start, Duration::from_secs(7200));
}

#[test]
fn a_stream_on_another_thread_is_refused() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let io = Io::new(stream);
        let io = std::sync::Mutex::new(Some(io));
        std::thread::scope(|scope| {
            let used = scope.spawn(|| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    io.lock().unwrap().as_mut().map(|io| {
                        let _ = std::pin::Pin::new(io).poll_shutdown_now();
                    })
                }))
                .is_err()
            });
            assert!(used.join().unwrap());
        });
        drop(io);
    });
}

/// Polls once, without a waker.
trait Once {
    fn poll_shutdown_now(self) -> bool;
}

impl Once for std::pin::Pin<&mut Io<TcpStream>> {
    fn poll_shutdown_now(self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        hyper::rt::Write::poll_shutdown(self, &mut cx).is_ready()
    }
}
