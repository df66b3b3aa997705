//! A request allocates nothing in the generator's loop, counted by the allocator. A crate of its own, because the counter is
//! unsafe code.
//!
//! Two runs differ in nothing but the number of requests. What the longer one allocates more would be the requests'. The server
//! is another process, whose allocations are its own.
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

/// Of all threads: the loop of a load has one of its own.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes on to the system's allocator unchanged; the counter is an atomic number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ended with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_annulet-bench"))
            .args(["target", "--sleep"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.split_whitespace().last().expect("a word").to_owned();
        Server { child, address }
    }

    /// What a load of so many requests allocates.
    fn load(&self, flags: &str, requests: u64) -> u64 {
        let line = format!(
            "annulet-bench load -t1 -d 60s -n {requests} {flags} http://{}/{{counter}}",
            self.address
        );
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let code = annulet_bench::main(line.split_whitespace().map(OsString::from));
        let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS), "{flags}");
        count
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One test: the counter is one.
#[test]
fn no_allocation_per_request() {
    const FEW: u64 = 4_000;
    const MANY: u64 = 24_000;
    let server = Server::start();
    for flags in ["-c8", "-c4 --pipeline 16", "-c8 --body {random:1-9}", "-c8 -R 1M"] {
        // The tables of the process grow to what is needed.
        server.load(flags, FEW);
        let few = server.load(flags, FEW);
        let more = server.load(flags, MANY).saturating_sub(few);
        // Intervals of a second allocate some: a slow machine has more of them.
        assert!(more < (MANY - FEW) / 20, "{flags}: {more} allocations for {} requests", MANY - FEW);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter counts");
}
