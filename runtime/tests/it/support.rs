//! What the tests share.

use annulet::net::{TcpListener, TcpStream};

/// A connected pair on this loop: (client, server).
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = annulet::spawn(async move { TcpStream::connect(address).await.unwrap() });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server)
}

/// Turns the loop until `done`, at most a few thousand times.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        annulet::time::sleep(std::time::Duration::from_micros(200)).await;
    }
    panic!("it did not come to pass: {what}; {:?}", annulet::metrics());
}

/// The end of a pipe that does not block. Waited for: a child that another test starts at this moment has the writing end, too,
/// until it executes its program.
pub(crate) fn ends(reader: &mut std::io::PipeReader) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_most = Timespec { tv_sec: 30, tv_nsec: 0 };
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&at_most)), Ok(1), "somebody keeps the writing end open");
    assert_eq!(std::io::Read::read(reader, &mut [0]).unwrap(), 0, "a byte too many");
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A list of what happened, shared by those to whom it happens.
#[derive(Clone, Default)]
pub(crate) struct Trace(std::rc::Rc<std::cell::RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn push(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// What happened since this was asked, joined by blanks.
    pub(crate) fn take(&self) -> String {
        self.0.take().join(" ")
    }

    /// Notes `what` when it is dropped.
    pub(crate) fn on_drop(&self, what: &str) -> impl Drop + use<> {
        struct OnDrop(Trace, String);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.push(std::mem::take(&mut self.1));
            }
        }
        OnDrop(self.clone(), what.to_owned())
    }
}

/// The words that `f` panics with.
#[track_caller]
pub(crate) fn words_of_panic<R>(f: impl FnOnce() -> R) -> String {
    let payload =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(f()))).expect_err("it panics");
    match payload.downcast::<String>() {
        Ok(words) => *words,
        Err(payload) => payload.downcast::<&'static str>().map(|words| words.to_string()).unwrap_or_default(),
    }
}

/// A future that is done when it is told, and says how often it was polled.
#[derive(Clone, Default)]
pub(crate) struct Gate(std::rc::Rc<GateState>);

#[derive(Default)]
struct GateState {
    is_open: std::cell::Cell<bool>,
    polls: std::cell::Cell<usize>,
    waker: std::cell::RefCell<Option<std::task::Waker>>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.0.is_open.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    /// Opens without waking anybody.
    pub(crate) fn open_quietly(&self) {
        self.0.is_open.set(true);
    }

    pub(crate) fn polls(&self) -> usize {
        self.0.polls.get()
    }

    pub(crate) fn waker(&self) -> std::task::Waker {
        self.0.waker.borrow().clone().expect("it was polled")
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.polls.set(self.0.polls.get() + 1);
        if self.0.is_open.get() {
            return std::task::Poll::Ready(());
        }
        self.0.waker.replace(Some(cx.waker().clone()));
        std::task::Poll::Pending
    }
}

/// Runs the future on a loop with the virtual clock.
pub(crate) fn with_virtual_time<F: Future>(future: F) -> F::Output {
    annulet::Builder::new().virtual_clock(true).run_local(future).unwrap()
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Every order of `0..count`.
pub(crate) fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let places = (0..count).flat_map(|place| shorter.iter().map(move |order| (place, order)));
    places
        .map(|(place, order)| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
        .collect()
}

/// What the open descriptors of this process are, as readlink(2) names them: paths, `pipe:[inode]`. Other tests of the
/// process come and go in it, so look for your own.
pub(crate) fn open_files() -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// Waits until the loop has had its turn: what is done at the end of a turn, such as closing sockets, is done. A yield is
/// not enough for that: a turn polls a task several times.
pub(crate) async fn a_turn() {
    let before = annulet::metrics().turns;
    for _ in 0..10_000 {
        if annulet::metrics().turns > before + 1 {
            return;
        }
        annulet::yield_now().await;
    }
    panic!("tasks that yield keep the loop from its turn");
}

/// Whether loops stand on io_uring here; `ANNULET_DRIVER` may say otherwise.
pub(crate) fn has_ring() -> bool {
    annulet::run(async { annulet::capabilities() }).driver() == annulet::DriverKind::IoUring
}
