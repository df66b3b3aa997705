//! A bounded channel from this core to another.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::lobby::{Lobby, Peer, Ring};
use super::port::{Port, Side};
use super::ring::{Consumer, Observer, Producer, Refused, ring};
use crate::shard::{Shard, with_current};
use crate::sync::Semaphore;
use crate::sync::mpsc::{SendError, TryRecvError, TrySendError};
use crate::task::waits::{WaitsFor, note};

/// Makes a channel from this core to the core at place `to`, for at most `capacity` values that were sent and not received.
///
/// The sender stays here; the receiver is carried to its core by [`submit_to`](super::submit_to), and receives there. A
/// receiver that is awake takes values without a system call; one that sleeps is rung once for all that was sent in a turn of
/// this loop, at its end. When the channel is full, senders wait, first come, first served.
///
/// Each loop looks at its ends of channels once a turn: a few dozen cost nothing to speak of, thousands do.
///
/// # Panics
///
/// On a loop that is not part of a mesh, when there is no such core, and with a capacity of zero or of more than 2^31.
///
/// # Examples
///
/// ```
/// let loops = annulet::Builder::new()
/// #   .cores([annulet::placement::available_cores().unwrap()[0]])
///     .start(|core| async move {
///         let (sender, mut receiver) = annulet::mesh::channel(0, 64);
///         let sum = annulet::mesh::submit_to(0, move || async move {
///             let mut sum = 0;
///             while let Some(number) = receiver.recv().await {
///                 sum += number;
///             }
///             sum
///         });
///         for number in 1..=100 {
///             sender.send(number).await.unwrap();
///         }
///         drop(sender);
///         assert_eq!(sum.await.unwrap(), 5050);
///     })
///     .unwrap();
/// loops.join().unwrap();
/// ```
#[track_caller]
pub fn channel<T: Send + 'static>(to: usize, capacity: usize) -> (Sender<T>, Receiver<T>) {
    let port = super::port();
    port.check(to);
    let (producer, consumer) = ring(capacity);
    let side = Rc::new(Sending {
        producer: RefCell::new(Some(producer)),
        room: Semaphore::new(capacity),
        freed: Cell::new(0),
        waits: Cell::new(false),
        pushed: Cell::new(false),
        peer: RefCell::new(Peer::new(port.lobby(), to)),
    });
    let place = port.insert_side(Rc::clone(&side) as Rc<dyn Side>);
    let receiver =
        Receiver { consumer, from: port.index(), to, lobby: Arc::clone(port.lobby()), place: None };
    (Sender(Rc::new(SenderHandle { side, port, place })), receiver)
}

/// Calls `f` with the port of this thread's loop, if it has one.
#[inline]
fn with_port<R>(f: impl FnOnce(Option<&Port>) -> R) -> R {
    with_current(|shard| f(shard.and_then(Shard::port).map(Rc::as_ref)))
}

/// Counts one operation of the running task, as those of sockets are counted. When it has had its share, the other side is told
/// of what was done meanwhile.
#[inline]
fn poll_share(cx: &mut Context<'_>) -> Poll<()> {
    with_current(|shard| {
        let Some(shard) = shard else { return Poll::Ready(()) };
        let polled = shard.executor.poll_share(cx);
        if polled.is_pending()
            && let Some(port) = shard.port()
        {
            port.ring_now();
        }
        polled
    })
}

/// The sending end. Clones send into the same channel and stay on its core, as it does.
pub struct Sender<T: Send + 'static>(Rc<SenderHandle<T>>);

struct SenderHandle<T: Send + 'static> {
    side: Rc<Sending<T>>,
    port: Rc<Port>,
    place: usize,
}

/// What the loop of the sender looks at.
struct Sending<T> {
    /// None when the last sender is gone.
    producer: RefCell<Option<Producer<T>>>,
    /// A permit for each value that has room.
    room: Semaphore,
    /// The producer's count of values taken for which permits were given back.
    freed: Cell<usize>,
    /// Somebody waits for room.
    waits: Cell<bool>,
    /// Something was put in since the last ring.
    pushed: Cell<bool>,
    peer: RefCell<Peer>,
}

impl<T> Sending<T> {
    /// How many values were taken since the last time; all of the channel is closed when nobody takes any more.
    fn collect(&self) {
        let seen =
            self.producer.borrow_mut().as_mut().map(|producer| (producer.consumed(), producer.is_gone()));
        let Some((consumed, is_gone)) = seen else { return };
        let freed = consumed.wrapping_sub(self.freed.replace(consumed));
        if freed > 0 {
            self.room.add_permits(freed);
        }
        if is_gone {
            self.room.close();
        }
        if self.waits.get() && (is_gone || self.room.available_permits() > 0) {
            self.set_waits(false);
        }
    }

    fn set_waits(&self, waits: bool) {
        self.waits.set(waits);
        if let Some(producer) = self.producer.borrow_mut().as_mut() {
            producer.set_waits(waits);
        }
    }

    /// Puts a value in for which there is a permit.
    fn push(&self, value: T) -> Result<(), T> {
        let mut producer = self.producer.borrow_mut();
        let producer = producer.as_mut().expect("there is a sender: the one that sends");
        match producer.push(value) {
            Ok(()) => {
                self.pushed.set(true);
                Ok(())
            }
            Err(Refused::Gone(value)) => Err(value),
            Err(Refused::Full(_)) => unreachable!("as many permits as places"),
        }
    }
}

impl<T> Side for Sending<T> {
    fn look(&self) -> bool {
        self.collect();
        true
    }

    fn is_due(&self) -> bool {
        // Nobody needs to be woken for room that nobody waits for.
        self.waits.get()
            && self
                .producer
                .borrow_mut()
                .as_mut()
                .is_some_and(|producer| producer.is_gone() || producer.consumed() != self.freed.get())
    }

    fn ring_behind_fence(&self, ring: Ring<'_>) {
        if self.pushed.replace(false) {
            self.peer.borrow_mut().nudge_behind_fence(ring);
        }
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Sends a value; waits while the channel is full.
    ///
    /// # Errors
    ///
    /// The value, when the receiver is gone or its core has ended.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in line and drops the value, which was not sent.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        // A sleeping receiver is rung for what this sends in between.
        poll_fn(poll_share).await;
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError(value)),
            Err(TrySendError::Full(value)) => self.send_later(value).await,
        }
    }

    #[cold]
    async fn send_later(&self, value: T) -> Result<(), SendError<T>> {
        let side = &self.0.side;
        let mut permit = pin!(side.room.acquire());
        let permit = poll_fn(|cx| {
            let polled = permit.as_mut().poll(cx);
            if polled.is_pending() {
                side.set_waits(true);
                note(WaitsFor::Channel("mesh::channel"));
            }
            polled
        })
        .await;
        match permit {
            Ok(permit) => {
                permit.forget();
                let sent = side.push(value).map_err(SendError);
                self.0.port.touch();
                sent
            }
            Err(_) => Err(SendError(value)),
        }
    }

    /// Sends a value if there is room now and nobody waits for it.
    ///
    /// # Errors
    ///
    /// The value, when the channel is full, the receiver gone or its core ended.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let side = &self.0.side;
        let mut permit = side.room.try_acquire();
        if permit.is_err() {
            side.collect();
            permit = side.room.try_acquire();
        }
        match permit {
            Ok(permit) => {
                permit.forget();
                self.0.port.touch();
                side.push(value).map_err(TrySendError::Closed)
            }
            Err(crate::sync::TryAcquireError::Closed) => Err(TrySendError::Closed(value)),
            Err(crate::sync::TryAcquireError::NoPermits) => Err(TrySendError::Full(value)),
        }
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.0.side.producer.borrow().as_ref().is_none_or(Producer::is_gone)
    }
}

impl<T: Send + 'static> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(Rc::clone(&self.0))
    }
}

impl<T: Send + 'static> Drop for SenderHandle<T> {
    fn drop(&mut self) {
        let producer = self.side.producer.borrow_mut().take();
        drop(producer);
        self.port.remove_side(self.place);
        // The receiver learns that nothing more will come.
        self.side.peer.borrow_mut().nudge();
    }
}

impl<T: Send + 'static> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mesh::Sender").field("to", &self.0.side.peer.borrow().core).finish_non_exhaustive()
    }
}

/// The receiving end. It may travel until it first receives, which it does on its own core only.
pub struct Receiver<T: Send + 'static> {
    consumer: Consumer<T>,
    from: usize,
    to: usize,
    lobby: Arc<Lobby>,
    /// Its place among the ends of channels of its core, once it has received there.
    place: Option<usize>,
}

/// What the loop of the receiver looks at. It does not hold the queue's end: that travels.
struct Receiving<T> {
    queue: Observer<T>,
    waker: Cell<Option<Waker>>,
    waits: Cell<bool>,
    /// How many values had been taken out when the sender was last rung for them.
    rung_for: Cell<usize>,
    peer: RefCell<Peer>,
}

impl<T> Side for Receiving<T> {
    fn wait(&self, waker: Waker) {
        let old = self.waker.replace(Some(waker));
        self.waits.set(true);
        drop(old);
    }

    fn look(&self) -> bool {
        if self.is_due() {
            self.waits.set(false);
            self.waker.take().into_iter().for_each(Waker::wake);
        }
        !self.queue.is_consumer_gone()
    }

    fn is_due(&self) -> bool {
        self.waits.get() && (self.queue.has_items() || self.queue.is_producer_gone())
    }

    fn ring_behind_fence(&self, ring: Ring<'_>) {
        let consumed = self.queue.consumed();
        if consumed != self.rung_for.replace(consumed) && self.queue.is_waited_for() {
            self.peer.borrow_mut().nudge_behind_fence(ring);
        }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// The next value; none when all senders are gone, or their core has ended, and everything was received.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing.
    ///
    /// # Panics
    ///
    /// On another core than the one that the channel leads to.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The polling form of [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // A sender that is as fast as this could keep it busy for ever.
        ready!(poll_share(cx));
        match self.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                self.enter().wait(cx.waker().clone());
                note(WaitsFor::Channel("mesh::channel"));
                Poll::Pending
            }
        }
    }

    /// A value if there is one now.
    ///
    /// # Errors
    ///
    /// Whether it is only empty, or will stay so.
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if !self.is_entered() {
            self.enter();
        }
        match self.consumer.pop() {
            Some(value) => {
                with_port(|port| port.map(Port::touch));
                Ok(value)
            }
            None if self.consumer.is_finished() => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Whether this is the core that the channel leads to, whose loop knows of it.
    #[inline]
    fn is_entered(&self) -> bool {
        let is_here = |port: &Port| port.index() == self.to && port.is_of(&self.lobby);
        self.place.is_some() && with_port(|port| port.is_some_and(is_here))
    }

    /// What the loop of this core looks at; entered there the first time.
    #[track_caller]
    fn enter(&mut self) -> Rc<dyn Side> {
        let port = super::port();
        assert!(
            port.is_of(&self.lobby) && port.index() == self.to,
            "this channel leads to core {} of its mesh, and something is received on another one; move the receiver there \
             with mesh::submit_to",
            self.to
        );
        let place = *self.place.get_or_insert_with(|| {
            let peer = RefCell::new(Peer::new(&self.lobby, self.from));
            port.insert_side(Rc::new(Receiving {
                queue: self.consumer.observer(),
                waker: Cell::new(None),
                waits: Cell::new(false),
                rung_for: Cell::new(0),
                peer,
            }))
        });
        port.side(place).expect("it stays there as long as the receiver lives")
    }
}

impl<T: Send + 'static> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.consumer.leave();
        // Senders learn that nobody receives any more. The entry at this end goes at the loop's next look.
        Peer::new(&self.lobby, self.from).nudge();
    }
}

impl<T: Send + 'static> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mesh::Receiver")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
