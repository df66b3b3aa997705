//! What idle connections hold, counted by the allocator. A crate of its own, because the counter is unsafe code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use annulet::net::{TcpListener, TcpStream};
use annulet_tls::{ClientAuth, TlsAcceptor, TlsConnector, TlsStream};

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged; the counter is a plain cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the pointer came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.set(HELD.get() + size as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 20;

/// What a connection may hold more or less than before, in bytes. rustls keeps 4 KiB into which it receives.
const DIFFERENCE_MAX: isize = 1024;

/// A certificate and its key in PEM, with an extension of so many bytes that nobody knows.
fn identity(extension_bytes: usize) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![7; extension_bytes]);
    params.custom_extensions.push(extension);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Connections (client, server) after their handshakes.
async fn connections(extension_bytes: usize) -> Vec<(TlsStream, TlsStream)> {
    let ((root, key), (client_root, client_key)) = (identity(0), identity(extension_bytes));
    let acceptor = TlsAcceptor::builder()
        .certificate(root.as_bytes(), key.as_bytes())
        .client_roots(client_root.as_bytes(), ClientAuth::Required)
        .build()
        .unwrap();
    let connector = TlsConnector::builder()
        .root_pem(root.as_bytes())
        .certificate(client_root.as_bytes(), client_key.as_bytes())
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pairs = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        let (client, server) =
            annulet::join(connector.connect("localhost", client), acceptor.accept(server)).await;
        pairs.push((client.unwrap(), server.unwrap()));
    }
    pairs
}

/// So many bytes from `from` to `to`, which is idle again behind them: it waits for the next.
async fn pass(from: &TlsStream, to: &TlsStream, bytes: usize) {
    from.write_all(&vec![7; bytes]).await.unwrap();
    let mut left = bytes;
    while left > 0 {
        left -= to.recv().await.unwrap().expect("nobody has closed").len();
    }
    let mut next = pin!(to.recv());
    assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
}

#[annulet::test]
async fn an_idle_connection_gives_back_what_a_large_record_took() {
    let pairs = connections(0).await;
    let mut held = 0;
    // What the loop and the thread keep for all has grown with the first rounds.
    for (round, bytes) in [1, 100_000, 1, 16 * 1024, 100_000, 1].into_iter().enumerate() {
        for (client, server) in &pairs {
            pass(client, server, bytes).await;
            pass(server, client, bytes).await;
        }
        let of_each = (HELD.get() - held) / CONNECTIONS as isize;
        assert!(round < 3 || of_each.abs() < DIFFERENCE_MAX, "{of_each} bytes more for {bytes}");
        held = HELD.get();
    }
}

#[annulet::test]
async fn a_handshake_gives_back_what_a_large_certificate_took() {
    let pairs = connections(30_000).await;
    for (client, server) in &pairs {
        // With the tickets.
        pass(server, client, 1).await;
    }
    let held = HELD.get();
    for (client, server) in &pairs {
        pass(client, server, 1).await;
        pass(client, server, 1).await;
    }
    let of_each = (HELD.get() - held) / CONNECTIONS as isize;
    assert!(of_each.abs() < DIFFERENCE_MAX, "{of_each} bytes more once a server has received");
}

/// So many bytes as whole records, and so many of the next one. rustls keeps its buffer for a single byte of it.
#[annulet::test]
async fn what_is_not_decrypted_is_counted_within_a_factor_of_two() {
    for (whole, begun) in
        [(0, 1), (0, 3000), (0, 12_000), (100, 1), (6000, 1), (16 * 1024, 1), (16 * 1024, 9000), (50_000, 5)]
    {
        let pairs = connections(0).await;
        for (client, server) in &pairs {
            // What the thread keeps for all has grown with the first.
            pass(server, client, 1).await;
            pass(client, server, 100_000).await;
        }
        let held = HELD.get();
        for (client, server) in &pairs {
            let record = [&[23, 3, 3, 0x40, 0x11][..], &[0; 16 * 1024]].concat();
            client.write_all(&vec![7; whole]).await.unwrap();
            client.get_ref().write_all(&record[..begun]).await.unwrap();
            let mut left = whole;
            while left > 0 {
                left -= server.recv().await.unwrap().expect("nobody has closed").len();
            }
            let mut next = pin!(server.recv());
            poll_fn(|cx| {
                assert!(next.as_mut().poll(cx).is_pending());
                if server.undecrypted() < begun { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
        // Send buffers go back with the next turn.
        annulet::time::sleep(std::time::Duration::from_millis(1)).await;
        let taken = (HELD.get() - held) / CONNECTIONS as isize;
        let counted = (annulet_tls::undecrypted_bytes() / CONNECTIONS) as isize;
        // Not counted are the 4 KiB that every connection has. rustls's buffer grows by doubling.
        let range = counted - 4096 - DIFFERENCE_MAX..=2 * counted + 4096 + DIFFERENCE_MAX;
        assert!(range.contains(&taken), "{whole} and {begun}: {taken} taken, {counted} counted");
    }
}
