//! placeholder
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
#[derive(Debug)]
pub(crate) struct Inbox<M> { messages: Mutex<Vec<M>>, mail: AtomicBool, state: AtomicU8 }
impl<M> Inbox<M> {
    pub(crate) fn new() -> Self { Inbox { messages: Mutex::new(Vec::new()), mail: AtomicBool::new(false), state: AtomicU8::new(0) } }
    pub(crate) fn push(&self, m: M, ring: impl FnOnce()) {
        self.messages.lock().unwrap().push(m);
        self.mail.store(true, Ordering::SeqCst);
        if self.state.swap(2, Ordering::SeqCst) == 1 { ring(); }
    }
    pub(crate) fn has_mail(&self) -> bool { self.mail.load(Ordering::Relaxed) }
    pub(crate) fn take(&self, out: &mut Vec<M>) { self.mail.store(false, Ordering::SeqCst); std::mem::swap(&mut *self.messages.lock().unwrap(), out); }
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.state.store(1, Ordering::SeqCst);
        if self.mail.load(Ordering::SeqCst) { self.state.store(0, Ordering::SeqCst); return false; }
        true
    }
    pub(crate) fn wake_up(&self) { self.state.store(0, Ordering::SeqCst); }
}
