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
    for _ in 0..2000 {
        if done() {
            return;
        }
        annulet::time::sleep(std::time::Duration::from_micros(200)).await;
    }
    panic!("it did not come to pass: {what}; {:?}", annulet::metrics());
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
    pub(crate) fn on_drop(&self, what: &str) -> impl Drop + 'static {
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
