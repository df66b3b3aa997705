//! Workers that are threads and share connections: what one leaves behind when it panics. Signals and processes are looked at from
//! outside, by the tests of annulet-serve.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulet::net::AcceptPolicy;
use annulet::{Builder, Core, Ended};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the workers and the client know of each other.
#[derive(Default)]
struct Story {
    /// Workers of the second core so far.
    generations: AtomicUsize,
    may_panic: AtomicBool,
    is_over: AtomicBool,
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it did not come to pass: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Writes a byte to everybody, until the story is over. The first worker of the second core takes nothing and panics.
async fn serve(mut core: Core, story: Arc<Story>) {
    let listener = core.take_listeners().pop().unwrap();
    if core.index() == 1 && story.generations.fetch_add(1, Ordering::SeqCst) == 0 {
        while !story.may_panic.load(Ordering::SeqCst) {
            annulet::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("on purpose");
    }
    drop(annulet::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            annulet::spawn(async move {
                let _ = stream.write_all(b"x").await;
                while let Ok(Some(_)) = stream.recv().await {}
            });
        }
    }));
    while !story.is_over.load(Ordering::SeqCst) {
        annulet::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn no_connection_is_lost_on_its_way_to_a_worker_that_panics() {
    const CLIENTS: usize = 20;
    let cores = annulet::placement::available_cores().unwrap();
    let story = Arc::new(Story::default());
    let (told, of_workers) = (Arc::clone(&story), Arc::clone(&story));
    let mut client = None;
    let ended = Builder::new()
        .cores([cores[0], cores[1 % cores.len()]])
        .accept(AcceptPolicy::Balance)
        .stall_limit(None)
        .new_privileges(true)
        .listen("127.0.0.1:0".parse().unwrap())
        .supervise(
            |started| {
                let (address, story) = (started.addresses[0], told);
                let connections = started.connections.clone().expect("they are threads");
                client = Some(std::thread::spawn(move || {
                    let clients: Vec<_> =
                        (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
                    wait_for("some are on their way", || connections.handed_over()[0] > 0);
                    story.may_panic.store(true, Ordering::SeqCst);
                    for mut client in clients {
                        client.set_read_timeout(Some(PATIENCE)).unwrap();
                        client.read_exact(&mut [0]).expect("every one is served");
                    }
                    wait_for("they are not counted any more", || connections.live() == [0, 0]);
                    story.is_over.store(true, Ordering::SeqCst);
                }));
            },
            move |core| serve(core, Arc::clone(&of_workers)),
        )
        .unwrap();
    client.unwrap().join().expect("every client is served");
    assert_eq!((ended, story.generations.load(Ordering::SeqCst)), (Ended::Finished, 2));
}
