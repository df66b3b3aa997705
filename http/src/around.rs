//! What stands around handlers: what is called before and after them, and the state that they share.
//!
//! A handler that is ready at once costs no allocation here either; one that waits costs a box for what is to come after it. What may
//! wait before a handler costs two boxes, whether it waits or not, and one more if it waits and something is to come after it. A field
//! that is added to an answer costs what it costs in any: two allocations for the first (`tests/allocations.rs`).
use std::any::{Any, TypeId};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;

use crate::handler::{AnyHandler, PendingCall, panic_answer, poll_call};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// What is called before a handler, and may answer in its place.
#[derive(Clone)]
pub(crate) enum Before {
    Now(Rc<AskNow>),
    /// Has the request while it waits.
    Later(Rc<AskLater>),
}

type AskNow = dyn Fn(&mut Request) -> Option<Response>;
type AskLater = dyn Fn(Request) -> Asked;

/// Gives the request back.
type Asked = Pin<Box<dyn Future<Output = (Request, Option<Response>)>>>;
pub(crate) type After = Rc<dyn Fn(Response) -> Response>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Around {
    /// In the order of calls.
    pub(crate) before: Vec<Before>,
    /// In the order of calls.
    pub(crate) after: Vec<After>,
    /// The first of a type counts.
    pub(crate) states: Vec<(TypeId, Rc<dyn Any>)>,
    /// How long a handler may take.
    pub(crate) time_max: Option<Duration>,
}

/// A handler and what stands around it.
struct Surrounded {
    around: Rc<Around>,
    /// Shared with what waits before it.
    handler: Rc<dyn AnyHandler>,
}

impl AnyHandler for Surrounded {
    fn start(
        &self,
        mut request: Request,
        cx: &mut Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        let Surrounded { around, handler } = self;
        if !around.states.is_empty() {
            request.set_around(around);
        }
        if !around.before.is_empty() {
            request.unset_first();
        }
        let start = || {
            for (at, before) in around.before.iter().enumerate() {
                *answer = match before {
                    Before::Now(before) => before(&mut request),
                    Before::Later(_) => {
                        let call = around.clone().ask_later(at, request, handler.clone());
                        return poll_once(Box::pin(call), cx, answer);
                    }
                };
                if answer.is_some() {
                    return None;
                }
            }
            handler.start(request, cx, answer)
        };
        let waits = match around.after.is_empty() {
            true => start(),
            // Here, so that what stands after sees the 500, too.
            false => catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| {
                *answer = Some(panic_answer());
                None
            }),
        };
        let Some(call) = waits else {
            *answer = answer.take().map(|answer| around.finish(answer));
            return None;
        };
        if around.after.is_empty() && around.time_max.is_none() {
            return Some(call);
        }
        Some(around.clone().finish_later(call))
    }
}

impl Around {
    /// Puts this around a handler.
    pub(crate) fn surround(around: &Rc<Around>, handler: Box<dyn AnyHandler>) -> Box<dyn AnyHandler> {
        Box::new(Surrounded { around: around.clone(), handler: handler.into() })
    }

    /// Asks what is before the handler, from one on that may wait, and then the handler.
    async fn ask_later(
        self: Rc<Self>,
        first: usize,
        mut request: Request,
        handler: Rc<dyn AnyHandler>,
    ) -> Response {
        for before in &self.before[first..] {
            let early;
            match before {
                Before::Now(before) => early = before(&mut request),
                Before::Later(before) => (request, early) = before(request).await,
            }
            if let Some(early) = early {
                return early;
            }
        }
        let (mut request, mut answer) = (Some(request), None);
        let started = poll_fn(|cx| {
            let request = request.take().expect("the closure is polled once: it is ready at once");
            Poll::Ready(handler.start(request, cx, &mut answer))
        });
        match started.await {
            Some(call) => call.await,
            None => answer.expect("who does not wait has answered"),
        }
    }

    fn finish(self: &Rc<Self>, mut answer: Response) -> Response {
        if answer.is_interim() {
            // What comes after it is meant for the answer.
            answer.map_interim(|call| self.clone().finish_later(call));
            return answer;
        }
        self.after.iter().fold(answer, |answer, after| after(answer))
    }

    fn finish_later(self: Rc<Self>, mut call: PendingCall) -> PendingCall {
        Box::pin(async move {
            let call = poll_fn(|cx| poll_call(&mut call, cx));
            let answer = match self.time_max {
                None => call.await,
                Some(time) => annulet::time::timeout(time, call)
                    .await
                    .unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response()),
            };
            self.finish(answer)
        })
    }

    pub(crate) fn state<T: 'static>(&self) -> Option<&T> {
        let (_, state) = self.states.iter().find(|(of, _)| *of == TypeId::of::<T>())?;
        state.downcast_ref()
    }

    pub(crate) fn state_rc<T: 'static>(&self) -> Option<Rc<T>> {
        let (_, state) = self.states.iter().find(|(of, _)| *of == TypeId::of::<T>())?;
        state.clone().downcast().ok()
    }
}

/// As [`AnyHandler::start`] does.
fn poll_once(
    mut call: PendingCall,
    cx: &mut Context<'_>,
    answer: &mut Option<Response>,
) -> Option<PendingCall> {
    match call.as_mut().poll(cx) {
        Poll::Ready(ready) => {
            *answer = Some(ready);
            None
        }
        Poll::Pending => Some(call),
    }
}

/// Passes an answer that is no handler's. A panic on the way becomes the answer 500: nobody above waits for one.
pub(crate) fn pass(answer: Response, after: &[After]) -> Response {
    let passed = AssertUnwindSafe(|| after.iter().fold(answer, |answer, after| after(answer)));
    catch_unwind(passed).unwrap_or_else(|_| panic_answer())
}
