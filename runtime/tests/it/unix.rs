//! Unix streams and listeners.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use annulet::net::{UnixListener, UnixStream};

/// A path of its own for each test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = Place(std::env::temp_dir().join(format!("annulet-{}-{name}", std::process::id())));
        let _ = std::fs::remove_file(&place.0);
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn echo_once(listener: &UnixListener, client: UnixStream) {
    let server = listener.accept().await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let lease = server.recv().await.unwrap().unwrap();
    server.write_all(&lease).await.unwrap();
    let mut word = [0; 4];
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    let closed = annulet::spawn(client.close(Duration::from_secs(10)));
    assert!(server.recv().await.unwrap().is_none(), "the end of the stream arrives");
    drop(server);
    closed.await.unwrap().unwrap();
}

#[test]
fn a_path_carries_bytes_both_ways() {
    let place = Place::new("path");
    annulet::run(async {
        let listener = UnixListener::bind(&place.0).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*place.0));
        let client = UnixStream::connect(&place.0).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*place.0));
        assert!(client.local_addr().unwrap().is_unnamed());
        echo_once(&listener, client).await;
    });
}

#[test]
fn an_abstract_name_carries_bytes_both_ways() {
    annulet::run(async {
        let name = format!("annulet-{}-abstract", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        echo_once(&listener, UnixStream::connect_addr(&address).await.unwrap()).await;
        echo_once(&listener, UnixStream::connect(format!("\0{name}")).await.unwrap()).await;
    });
}

#[test]
fn an_address_in_use_is_refused_and_its_file_left_alone() {
    let place = Place::new("in-use");
    annulet::run(async {
        let first = UnixListener::bind(&place.0).unwrap();
        let check = |expected: &str| {
            let error = UnixListener::bind(&place.0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(place.0.to_str().unwrap()), "{text}");
        };
        check("in use");
        drop(first);
        // Its server has ended, but that is not ours to find out.
        check("remove it first");
        assert!(place.0.exists());
        std::fs::remove_file(&place.0).unwrap();
        UnixListener::bind(&place.0).unwrap();
    });
}

#[test]
fn connecting_to_nobody_says_whether_the_file_is_there() {
    let place = Place::new("nobody");
    annulet::run(async {
        let error = UnixStream::connect(&place.0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        drop(std::os::unix::net::UnixListener::bind(&place.0).unwrap());
        let error = UnixStream::connect(&place.0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("nobody listens"), "{error}");
        let error = UnixStream::connect("x".repeat(200)).await.unwrap_err();
        assert!(error.to_string().contains("200 bytes"), "{error}");
    });
}

#[test]
fn a_pair_has_halves_and_knows_its_peer() {
    annulet::run(async {
        let (mut one, other) = UnixStream::pair().unwrap();
        let credentials = one.peer_cred().unwrap();
        assert_eq!(credentials.pid(), Some(std::process::id() as i32));
        assert_eq!(credentials.uid(), own_uid());
        let (mut reading, mut writing) = one.split();
        let (mut other_reading, mut other_writing) = other.into_split();
        writing.write_all(b"there").await.unwrap();
        writing.shutdown().await.unwrap();
        let mut word = [0; 5];
        other_reading.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"there");
        assert_eq!(other_reading.read(&mut word).await.unwrap(), 0);
        other_writing.write_all(b"back").await.unwrap();
        drop((other_reading, other_writing));
        assert_eq!(&reading.recv().await.unwrap().unwrap()[..], b"back");
        assert!(reading.recv().await.unwrap().is_none());
    });
}

/// The real user, read from where no library is needed.
fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// What a listener has accepted before it was asked for it comes out at its end.
#[test]
fn a_listener_that_ends_gives_what_it_has_accepted() {
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    annulet::run(async {
        if annulet::capabilities().driver() != annulet::DriverKind::IoUring {
            return println!("skipped: only a ring accepts before it is asked for a connection");
        }
        let place = Place::new("rest");
        let listener = UnixListener::bind(&place.0).unwrap();
        let accepted = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(accepted.clone());
        assert!(listener.poll_accept(&mut Context::from_waker(&waker)).is_pending());
        let mut client = std::os::unix::net::UnixStream::connect(&place.0).unwrap();
        while !accepted.0.load(Ordering::Relaxed) {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        let server = listener.rest().await.expect("the connection that woke us");
        assert!(listener.rest().await.is_none());
        drop(listener);
        server.write_all(b"there").await.unwrap();
        // The kernel has them then, and gives them at once.
        server.flush().await.unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"there");
    });
}
