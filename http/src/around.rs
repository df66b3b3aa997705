//! What stands around handlers: what is called before and after them, and the state that they share.
//!
//! A handler that is ready at once costs no allocation here either; one that waits costs a box for what is to come after it. A field
//! that is added to an answer costs what it costs in any: two allocations for the first (`tests/allocations.rs`).
use std::any::{Any, TypeId};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use http::StatusCode;

use crate::handler::{AnyHandler, PendingCall, panic_answer, poll_call};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

pub(crate) type Before = Rc<dyn Fn(&mut Request) -> Option<Response>>;
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
    handler: Box<dyn AnyHandler>,
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
        let start = || {
            *answer = around.before.iter().find_map(|before| before(&mut request));
            match answer {
                Some(_) => None,
                None => handler.start(request, cx, answer),
            }
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
        Box::new(Surrounded { around: around.clone(), handler })
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

/// Passes an answer that is no handler's. A panic on the way becomes the answer 500: nobody above waits for one.
pub(crate) fn pass(answer: Response, after: &[After]) -> Response {
    let passed = AssertUnwindSafe(|| after.iter().fold(answer, |answer, after| after(answer)));
    catch_unwind(passed).unwrap_or_else(|_| panic_answer())
}
