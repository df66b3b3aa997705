//! One loop's side of the mesh: its queues to and from each other core, and the channels that end here.
//!
//! The loop calls [`ring`](Port::ring) behind its tasks, asks [`is_quiet`](Port::is_quiet) before it sleeps, and calls
//! [`look`](Port::look) at the end of each turn, so that who was waited for is polled next. With no queue open all three cost a few instructions.
//!
//! Architecture invariant: no waker is woken, no task started and no value of the user's dropped while a table is borrowed
//! here.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::call::{Job, Parcel, State, Ticket};
use super::lobby::{Ended, Lobby, Membership, News, Peer, Ring, ring_now};
use super::outgoing::{Abandoned, CALLS_MAX, Finished, Leftovers, Outgoing};
use super::ring::Consumer;
use crate::panics::drop_quietly;
use crate::shard::{Remote, hold_virtual_time, with_current};
use crate::sync_shim::{Ordering, fence};
use crate::task::TaskId;
use crate::task::waits::{WaitsFor, note};

/// Parcels of one core that are taken in a turn; then the others have their turn, and the ring.
const PARCELS_PER_TURN: usize = 256;

/// One end of a channel that lives on this loop.
pub(super) trait Side {
    /// Called once a turn, with nothing borrowed: wakes who waits for what has come. False if it is not to be called again.
    fn look(&self) -> bool;

    /// Whether [`look`](Self::look) would do something. Asked behind a sequentially consistent fence.
    fn is_due(&self) -> bool;

    /// Rings the other end, if this one did something that it waits for. Behind a sequentially consistent fence.
    fn ring_behind_fence(&self, ring: Ring<'_>);

    /// A receiving end waits for values.
    fn wait(&self, _waker: Waker) {}
}

/// See the module.
pub(crate) struct Port {
    lobby: Arc<Lobby>,
    index: usize,
    /// Queues away from here, by core; made when first used.
    outgoing: RefCell<Vec<Option<Outgoing>>>,
    incoming: RefCell<Vec<Incoming>>,
    /// Calls of other cores that run here: the task, by caller and ticket.
    running: RefCell<Vec<Vec<Option<TaskId>>>>,
    sides: RefCell<Sides>,
    /// Something was put into a queue, or taken out of one, since the last [`ring`](Self::ring).
    touched: Cell<bool>,
    is_closed: Cell<bool>,
    /// This core's pieces of sharded values.
    pub(super) shards: RefCell<HashMap<u64, Rc<dyn Any>>>,
}

#[derive(Debug)]
struct Incoming {
    lane: Consumer<Parcel>,
    peer: Peer,
    /// Something was taken out since the last ring.
    popped: bool,
}

/// The ends of channels, by their place.
#[derive(Default)]
struct Sides {
    places: Vec<Option<Rc<dyn Side>>>,
    free: Vec<usize>,
}

impl Port {
    /// The loop of this thread begins.
    pub(crate) fn new(membership: &Membership, remote: &Arc<Remote>) -> Rc<Self> {
        let lobby = Arc::clone(&membership.lobby);
        lobby.open(membership.core, Arc::clone(remote));
        let cores = lobby.cores();
        let port = Rc::new(Port {
            lobby,
            index: membership.core,
            outgoing: RefCell::new((0..cores).map(|_| None).collect()),
            incoming: RefCell::default(),
            running: RefCell::new(vec![Vec::new(); cores]),
            sides: RefCell::default(),
            touched: Cell::new(false),
            is_closed: Cell::new(false),
            shards: RefCell::default(),
        });
        port.handle_news();
        port
    }

    pub(super) fn lobby(&self) -> &Arc<Lobby> {
        &self.lobby
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn cores(&self) -> usize {
        self.lobby.cores()
    }

    /// # Panics
    ///
    /// When there is no such core.
    #[track_caller]
    pub(super) fn check(&self, core: usize) {
        let cores = self.cores();
        assert!(
            core < cores,
            "there is no core {core} in this mesh: it has {cores}, counted from zero in the order in which they were \
             started, whatever their numbers for the kernel are"
        );
    }

    /// Whether other cores may send something here.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        let sides = self.sides.borrow();
        !self.incoming.borrow().is_empty() || sides.places.len() > sides.free.len()
    }

    /// Once a turn: takes what other cores have sent.
    #[inline]
    pub(crate) fn look(self: &Rc<Self>) {
        let lanes = self.incoming.borrow().len();
        for place in 0..lanes {
            self.take_parcels(place);
        }
        let sides = self.sides.borrow().places.len();
        if sides > 0 {
            self.look_at_sides();
        }
        self.send_on();
    }

    fn take_parcels(self: &Rc<Self>, place: usize) {
        for _ in 0..PARCELS_PER_TURN {
            let Some((from, parcel)) = self.pop_parcel(place) else { return };
            self.handle_parcel(from, parcel);
        }
    }

    #[inline]
    fn pop_parcel(&self, place: usize) -> Option<(usize, Parcel)> {
        let mut incoming = self.incoming.borrow_mut();
        // Handling a parcel takes no queue away, so the place is the same.
        let incoming = &mut incoming[place];
        let parcel = incoming.lane.pop()?;
        incoming.popped = true;
        self.touched.set(true);
        Some((incoming.peer.core, parcel))
    }

    fn handle_parcel(self: &Rc<Self>, from: usize, parcel: Parcel) {
        match parcel {
            Parcel::Run(ticket, job) => {
                let task = job.start(self, from, ticket);
                let mut running = self.running.borrow_mut();
                let tasks = &mut running[from];
                if tasks.len() <= ticket as usize {
                    tasks.resize(ticket as usize + 1, None);
                }
                tasks[ticket as usize] = Some(task);
            }
            Parcel::Abort(ticket) => {
                let task = self.running.borrow()[from].get(ticket as usize).copied().flatten();
                if let Some(task) = task {
                    with_current(|shard| {
                        if let Some(shard) = shard {
                            shard.executor.abort(task);
                        }
                    });
                }
            }
            Parcel::Reply(ticket, job) => {
                let mut outgoing = self.outgoing.borrow_mut();
                let Some(to) = outgoing[from].as_mut() else {
                    unreachable!("calls are kept where they were sent")
                };
                let finished = to.finish(ticket, job);
                let room = Rc::clone(&to.room);
                drop(outgoing);
                match finished {
                    Finished::Wake(waker) => waker.into_iter().for_each(Waker::wake),
                    Finished::Unwanted(job) => {
                        drop_quietly(job);
                        room.add_permits(1);
                    }
                }
            }
        }
    }

    fn look_at_sides(&self) {
        let mut place = 0;
        loop {
            let sides = self.sides.borrow();
            let Some(side) = sides.places.get(place) else { break };
            let side = side.clone();
            drop(sides);
            if let Some(side) = side
                && !side.look()
            {
                self.remove_side(place);
            }
            place += 1;
        }
    }

    fn send_on(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        for to in outgoing.iter_mut().flatten() {
            if to.send_on() {
                self.touched.set(true);
            }
        }
    }

    /// Behind the tasks, before anything else of the turn: lets `ring` ring the sleepers among those that something was sent
    /// to, or whose queue has room again. Nobody else will: they sleep until it has.
    #[inline]
    pub(crate) fn ring(&self, ring: impl FnMut(&Arc<Remote>)) {
        if self.touched.replace(false) {
            self.ring_sleepers(ring);
        }
    }

    /// In the middle of a turn, or when there is none: rings them by system calls.
    pub(super) fn ring_now(&self) {
        self.ring(ring_now);
    }

    fn ring_sleepers(&self, mut ring: impl FnMut(&Arc<Remote>)) {
        let ring: Ring<'_> = &mut ring;
        // Pairs with the fence of each receiver's `Inbox::prepare_sleep`. One for all of them.
        fence(Ordering::SeqCst);
        self.outgoing.borrow_mut().iter_mut().flatten().for_each(|to| to.ring_behind_fence(ring));
        for incoming in self.incoming.borrow_mut().iter_mut() {
            if std::mem::take(&mut incoming.popped) && incoming.lane.is_waited_for() {
                incoming.peer.nudge_behind_fence(ring);
            }
        }
        self.sides.borrow().places.iter().flatten().for_each(|side| side.ring_behind_fence(ring));
    }

    /// Whether nothing has come. Asked behind a sequentially consistent fence, or by a loop that does not sleep yet.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        !self.incoming.borrow_mut().iter_mut().any(|incoming| incoming.lane.has_items())
            && !self.outgoing.borrow_mut().iter_mut().flatten().any(Outgoing::can_send_on)
            && !self.sides.borrow().places.iter().flatten().any(|side| side.is_due())
    }

    /// Something lies at this loop's door, or another loop has ended.
    pub(crate) fn handle_news(self: &Rc<Self>) {
        // Asked first: who is gone by now has left its last answers where they are found below. Who goes meanwhile may answer
        // behind this look, and tells again.
        let gone: Vec<usize> = {
            let outgoing = self.outgoing.borrow();
            let is_gone = |core: &usize| outgoing[*core].as_ref().is_some_and(Outgoing::is_gone);
            (0..outgoing.len()).filter(is_gone).collect()
        };
        let News { lanes, dropped } = self.lobby.news(self.index);
        for (from, lane) in lanes {
            let peer = Peer::new(&self.lobby, from);
            self.incoming.borrow_mut().push(Incoming { lane, peer, popped: false });
        }
        for id in dropped {
            let shard = self.shards.borrow_mut().remove(&id);
            drop_quietly(shard);
        }
        // The last answers of a loop that has ended come first.
        self.look();
        self.incoming.borrow_mut().retain_mut(|incoming| !incoming.lane.is_finished());
        gone.into_iter().for_each(|core| self.lose_calls(core));
    }

    /// Ends the calls to a core that has ended, and whose last answers were taken.
    fn lose_calls(&self, core: usize) {
        let mut outgoing = self.outgoing.borrow_mut();
        let Some(to) = outgoing[core].as_mut().filter(|to| to.is_gone()) else { return };
        let leftovers = to.lose_calls();
        let room = Rc::clone(&to.room);
        drop(outgoing);
        room.close();
        leftovers.settle();
    }

    /// Calls `f` with the queue to a core; makes it if need be.
    fn with_outgoing<R>(&self, core: usize, f: impl FnOnce(&mut Outgoing) -> R) -> Result<R, Ended> {
        if self.is_closed.get() {
            return Err(Ended);
        }
        // Dropped behind the borrow: answers that nobody took may lie in it.
        let _old;
        let mut outgoing = self.outgoing.borrow_mut();
        // A loop that ended and was started again gets a new queue, once nobody waits for an answer of the old one.
        _old = outgoing[core].take_if(|to| to.is_gone() && to.is_idle());
        if outgoing[core].is_none() {
            let lane = self.lobby.open_lane(self.index, core)?;
            outgoing[core] = Some(Outgoing::new(lane, Peer::new(&self.lobby, core)));
        }
        Ok(f(outgoing[core].as_mut().expect("made above")))
    }

    /// Begins a call: sends it, or puts it in line.
    pub(super) fn begin(&self, core: usize, job: Box<dyn Job>) -> State {
        let Ok(room) = self.with_outgoing(core, |to| Rc::clone(&to.room)) else { return State::Refused };
        if let Ok(permit) = room.try_acquire() {
            permit.forget();
            return self.send(core, job);
        }
        State::InLine(job, Box::pin(room.acquire_owned()))
    }

    /// Sends a call that has its place among those under way.
    pub(super) fn send(&self, core: usize, job: Box<dyn Job>) -> State {
        let hold = hold_virtual_time();
        let sent = self.with_outgoing(core, |to| {
            let ticket = to.begin(hold);
            match to.push(Parcel::Run(ticket, job)) {
                Ok(()) => Ok(ticket),
                Err(parcel) => {
                    to.withdraw(ticket);
                    Err(parcel)
                }
            }
        });
        match sent {
            Ok(Ok(ticket)) => {
                self.touched.set(true);
                State::Sent(ticket)
            }
            // Dropped here, with nothing borrowed.
            Ok(Err(_)) | Err(Ended) => State::Refused,
        }
    }

    /// The result of a call; none if its core ended before it began.
    pub(super) fn poll_call(
        &self,
        core: usize,
        ticket: Ticket,
        cx: &Context<'_>,
    ) -> Poll<Option<Box<dyn Job>>> {
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut outgoing = self.outgoing.borrow_mut();
        // None once this loop has ended: its table is gone.
        let Some(to) = outgoing[core].as_mut() else { return Poll::Ready(None) };
        let polled = to.poll(ticket, waker, &mut old);
        let room = Rc::clone(&to.room);
        drop(outgoing);
        drop(old);
        match polled {
            Poll::Pending => note(WaitsFor::Channel("mesh::submit_to")),
            Poll::Ready(_) => room.add_permits(1),
        }
        polled
    }

    /// The result of a call is not wanted. If it `aborts`, the call is ended as well.
    pub(super) fn abandon(&self, core: usize, ticket: Ticket, aborts: bool) {
        let mut outgoing = self.outgoing.borrow_mut();
        let Some(to) = outgoing[core].as_mut() else { return };
        let abandoned = to.abandon(ticket);
        let room = Rc::clone(&to.room);
        if aborts && matches!(abandoned, Abandoned::UnderWay(_)) && to.push(Parcel::Abort(ticket)).is_ok() {
            self.touched.set(true);
        }
        drop(outgoing);
        match abandoned {
            Abandoned::UnderWay(waker) => drop(waker),
            Abandoned::Over(job) => {
                drop_quietly(job);
                room.add_permits(1);
            }
        }
    }

    /// A call of another core is over.
    pub(super) fn reply(&self, from: usize, ticket: Ticket, job: Box<dyn Job>) {
        if let Some(task) = self.running.borrow_mut()[from].get_mut(ticket as usize) {
            *task = None;
        }
        // If nobody is there any more who asked, the job is dropped here, with nothing borrowed.
        if let Ok(Ok(())) = self.with_outgoing(from, |to| to.push(Parcel::Reply(ticket, job))) {
            self.touched.set(true);
        }
    }

    /// Enters an end of a channel. Gives its place.
    pub(super) fn insert_side(&self, side: Rc<dyn Side>) -> usize {
        let mut sides = self.sides.borrow_mut();
        match sides.free.pop() {
            Some(place) => {
                sides.places[place] = Some(side);
                place
            }
            None => {
                sides.places.push(Some(side));
                sides.places.len() - 1
            }
        }
    }

    /// An end of a channel; none once the loop has ended.
    pub(super) fn side(&self, place: usize) -> Option<Rc<dyn Side>> {
        self.sides.borrow().places.get(place).cloned().flatten()
    }

    /// Whether this is a loop of that mesh.
    pub(super) fn is_of(&self, lobby: &Arc<Lobby>) -> bool {
        Arc::ptr_eq(&self.lobby, lobby)
    }

    /// Strikes an end of a channel out.
    pub(super) fn remove_side(&self, place: usize) {
        let mut sides = self.sides.borrow_mut();
        let Some(side) = sides.places.get_mut(place).and_then(Option::take) else { return };
        sides.free.push(place);
        if sides.free.len() == sides.places.len() {
            // Nothing is left that a turn would look at.
            sides.places.clear();
            sides.free.clear();
        }
        drop(sides);
        drop(side);
    }

    /// An end of a channel has put in or taken out something.
    #[inline]
    pub(super) fn touch(&self) {
        self.touched.set(true);
    }

    /// The loop has ended, its tasks are gone: the last answers leave, and all others are told. What others have sent is
    /// dropped.
    pub(crate) fn close(&self) {
        self.send_on();
        self.ring_now();
        self.is_closed.set(true);
        let mut leftovers = Vec::<Leftovers>::new();
        let outgoing: Vec<_> = self.outgoing.borrow_mut().iter_mut().map(Option::take).collect();
        let incoming = std::mem::take(&mut *self.incoming.borrow_mut());
        let sides = std::mem::take(&mut *self.sides.borrow_mut());
        let shards = std::mem::take(&mut *self.shards.borrow_mut());
        for mut to in outgoing.into_iter().flatten() {
            if to.is_gone() {
                leftovers.push(to.lose_calls());
            }
        }
        /// Tells the others also if a drop of the user's panics.
        struct Close<'a>(&'a Port);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.lobby.close(self.0.index);
            }
        }
        let _close = Close(self);
        drop((incoming, sides.places, shards));
        leftovers.into_iter().for_each(Leftovers::settle);
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("index", &self.index)
            .field("cores", &self.cores())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(CALLS_MAX <= Ticket::MAX as usize);

#[cfg(all(test, not(annulet_loom)))]
mod tests {
    use std::any::Any;

    use super::*;
    use crate::executor::MAIN;
    use crate::shard::{Shard, ShardSettings};

    /// Who called, and with what.
    type Started = (usize, Ticket, Box<dyn Job>);

    thread_local! {
        /// Jobs that were started and are not over.
        static STARTED: RefCell<Vec<Started>> = const { RefCell::new(Vec::new()) };
    }

    /// A call without a task.
    struct Bare;

    impl Job for Bare {
        fn start(self: Box<Self>, _port: &Rc<Port>, from: usize, ticket: Ticket) -> TaskId {
            STARTED.with_borrow_mut(|started| started.push((from, ticket, self)));
            MAIN
        }

        fn outcome(&mut self) -> &mut dyn Any {
            self
        }
    }

    /// Answers, and ends, when the other core looks at its channels: behind its look at the queues.
    struct EndsMeanwhile(Rc<Port>);

    impl Side for EndsMeanwhile {
        fn look(&self) -> bool {
            for (from, ticket, job) in STARTED.take() {
                self.0.reply(from, ticket, job);
            }
            self.0.close();
            false
        }

        fn is_due(&self) -> bool {
            false
        }

        fn ring_behind_fence(&self, _ring: Ring<'_>) {}
    }

    #[test]
    fn a_loop_whose_channels_are_gone_is_as_if_it_never_had_any() {
        let lobby = Lobby::new(1);
        let memberships = Membership::all(&lobby);
        let shard = Shard::new(&ShardSettings::default(), None).unwrap();
        shard.join_mesh(&memberships[0]);
        let port = shard.port().unwrap();
        assert!(!port.is_in_use());
        let side = || Rc::new(EndsMeanwhile(Rc::clone(port)));
        let places = [port.insert_side(side()), port.insert_side(side())];
        port.remove_side(places[0]);
        assert!(port.is_in_use());
        port.remove_side(places[1]);
        assert!(!port.is_in_use() && port.sides.borrow().places.is_empty());
        assert_eq!(port.insert_side(side()), 0);
        assert!(port.is_in_use());
        // It has the port, and the port has it.
        port.remove_side(0);
    }

    #[test]
    fn a_core_that_answers_and_ends_during_the_look_has_answered() {
        let lobby = Lobby::new(2);
        let memberships = Membership::all(&lobby);
        let shards = [0, 1].map(|core| {
            let shard = Shard::new(&ShardSettings::default(), None).unwrap();
            shard.join_mesh(&memberships[core]);
            shard
        });
        let [here, there] = [0, 1].map(|core| Rc::clone(shards[core].port().unwrap()));
        let State::Sent(ticket) = here.begin(1, Box::new(Bare)) else { panic!("it was not sent") };
        there.handle_news();
        assert_eq!(STARTED.with_borrow(Vec::len), 1);
        here.insert_side(Rc::new(EndsMeanwhile(there)));
        // For another reason than the end of the other core.
        here.handle_news();
        // For that.
        here.handle_news();
        let polled = here.poll_call(1, ticket, &Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Some(_))), "the answer is lost");
    }
}
