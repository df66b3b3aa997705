//! Which handler answers a request, and what is answered where there is none.
use std::iter::once;

use http::{HeaderValue, Method, StatusCode, header};

use super::route::{Route, allow, is_common};
use super::{Router, UNROUTED, escaped};
use crate::around::pass;
use crate::h1::{Refusal, same};
use crate::handler::{AnyHandler, PendingCall};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// A handler that was found; good for the router that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    route: u32,
    handler: u32,
}

/// Why there is no handler: small, where an answer is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(super) status: StatusCode,
    /// The index of the route whose answer it is in place of a handler's: what stands after that sees it. `None`: the server's, which
    /// has asked no router.
    route: Option<u32>,
}

impl Miss {
    /// RFC 9110 section 7.4: a request for an `https` URI has to come over a secured connection, or from a trusted gateway.
    #[cold]
    pub(crate) fn misdirected() -> Miss {
        Miss { status: StatusCode::MISDIRECTED_REQUEST, route: None }
    }
}

/// What the router answers in a handler's place.
pub(super) const OWN: [StatusCode; 5] = [
    StatusCode::NO_CONTENT,
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

/// One of these as a handler, behind what is before it. It waits for nothing and holds nothing of a call.
pub(super) struct OwnAnswer {
    status: StatusCode,
    allow: Option<HeaderValue>,
}

impl AnyHandler for OwnAnswer {
    fn start(
        &self,
        _: Request,
        _: &mut std::task::Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        *answer = Some(self.answer());
        None
    }
}

impl OwnAnswer {
    fn answer(&self) -> Response {
        let answer = self.status.into_response();
        self.allow.iter().fold(answer, |answer, allow| answer.with_header(header::ALLOW, allow.clone()))
    }
}

impl Router {
    /// Finds the handler for a request and puts the parameters into it. `input` is what the request was parsed
    /// of: the path is read there.
    #[inline]
    pub(crate) fn find(&self, input: &[u8], request: &mut Request) -> Result<Target, Miss> {
        let head = request.head();
        let path = &head.bytes(input)[head.path.range()];
        let is_get = head.is_get;
        if let Some(&(_, index)) = self.literal.iter().find(|(literal, _)| same(literal.as_bytes(), path)) {
            return self.find_handler(index, is_get, request.method());
        }
        if head.path_is_escaped {
            return self.find_escaped(is_get, request);
        }
        self.find_open(path, is_get, request)
    }

    /// Behind the paths without parameters. Those of them in the lane hold no escape that another stands for.
    #[inline(always)]
    fn find_open(&self, path: &[u8], is_get: bool, request: &mut Request) -> Result<Target, Miss> {
        if self.is_simple {
            return self.find_prefixed(path, is_get, request);
        }
        self.find_in_tree(path, is_get, request)
    }

    /// As `find`, by the form in which all paths that are the same are the same.
    #[cold]
    #[inline(never)]
    fn find_escaped(&self, is_get: bool, request: &mut Request) -> Result<Target, Miss> {
        request.normalise_path();
        let mut path = request.take_matched();
        path.clear();
        escaped::matched(request.path().as_bytes(), &mut path);
        let literal = self.literal.iter().find(|(literal, _)| literal.as_bytes() == path);
        let found = match literal {
            Some(&(_, index)) => self.find_handler(index, is_get, request.method()),
            None => self.find_open(&path, is_get, request),
        };
        request.keep_matched(path);
        found
    }

    /// In a simple table the bytes before the last segment decide: at most one prefix fits.
    #[inline]
    fn find_prefixed(&self, path: &[u8], is_get: bool, request: &mut Request) -> Result<Target, Miss> {
        let fits = |prefix: &str| {
            let (start, last) = path.split_at_checked(prefix.len())?;
            (same(start, prefix.as_bytes()) && !last.is_empty() && !last.contains(&b'/')).then_some(last)
        };
        let found = self.prefixed.iter().find_map(|(prefix, index)| Some((fits(prefix)?, *index)));
        let Some((value, index)) = found else {
            return self.find_fallback(path, request.method());
        };
        let target = self.find_handler(index, is_get, request.method())?;
        self.fill_params(target, once(text_of(value)), request)
    }

    #[inline]
    fn fill_params<'p>(
        &self,
        target: Target,
        values: impl Iterator<Item = &'p str>,
        request: &mut Request,
    ) -> Result<Target, Miss> {
        let names = &self.routes[target.route as usize].param_names;
        if !names.is_empty() {
            for value in values {
                if let Err(why) = request.push_param(value) {
                    return self.miss(target.route, why.status());
                }
            }
            request.set_param_names(names);
        }
        Ok(target)
    }

    fn find_in_tree(&self, path: &[u8], is_get: bool, request: &mut Request) -> Result<Target, Miss> {
        let Ok(found) = self.tree.at(text_of(path)) else {
            return self.find_fallback(path, request.method());
        };
        let target = self.find_handler(*found.value, is_get, request.method())?;
        self.fill_params(target, found.params.iter().map(|(_, value)| value), request)
    }

    #[inline(always)]
    fn find_handler(&self, index: u32, is_get: bool, method: &Method) -> Result<Target, Miss> {
        let route = &self.routes[index as usize];
        let found = if is_get { route.get } else { route.find(method).map(|at| at as u32) };
        match found {
            Some(handler) => Ok(Target { route: index, handler }),
            None => self.miss_unhandled(index, method),
        }
    }

    /// Calls the handler and polls it once, see [`AnyHandler::start`].
    #[inline]
    pub(crate) fn call(
        &self,
        target: Target,
        request: Request,
        cx: &mut std::task::Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        let route = &self.routes[target.route as usize];
        route.handlers[target.handler as usize].1.start(request, cx, answer)
    }

    /// What the content of a request to this target may have, in bytes, if the route says so.
    pub(crate) fn body_bytes(&self, target: Target) -> Option<u64> {
        self.routes[target.route as usize].body_bytes
    }

    /// The answer in place of a handler's.
    #[cold]
    pub(crate) fn answer(&self, miss: Miss) -> Response {
        let Some(at) = miss.route else { return miss.status.into_response() };
        let around = self.routes[at as usize].around.as_ref();
        pass(self.own_answer(miss.status, at).answer(), around.map_or(&[], |around| &around.after))
    }

    /// What is answered in place of a handler of this route.
    pub(super) fn own_answer(&self, status: StatusCode, route: u32) -> OwnAnswer {
        let allow = match status {
            // `OPTIONS *`. What a handler of any method takes, nobody knows here.
            StatusCode::NO_CONTENT if route == UNROUTED => {
                let is_known = self.routes.iter().all(|route| route.any.is_none());
                is_known.then(|| allow(self.routes.iter().flat_map(Route::methods)))
            }
            StatusCode::NO_CONTENT | StatusCode::METHOD_NOT_ALLOWED => {
                Some(self.routes[route as usize].allow.clone())
            }
            _ => None,
        };
        OwnAnswer { status, allow }
    }

    #[cold]
    fn find_fallback(&self, path: &[u8], method: &Method) -> Result<Target, Miss> {
        let below = self.fallbacks_below.iter().filter(|(prefix, _)| is_below(path, prefix));
        let nearest = below.max_by_key(|(prefix, _)| prefix.len()).map(|(_, route)| *route);
        match nearest.or(self.fallback) {
            Some(route) if path != b"*" => self.find_handler(route, *method == Method::GET, method),
            _ => self.miss_unrouted(path, method),
        }
    }

    #[cold]
    fn miss_unrouted(&self, path: &[u8], method: &Method) -> Result<Target, Miss> {
        let status = match (self.knows(method), path) {
            (false, _) => Refusal::MethodUnknown.status(),
            // RFC 9110 section 9.3.7: the server as a whole is asked.
            (true, b"*") => StatusCode::NO_CONTENT,
            (true, _) => StatusCode::NOT_FOUND,
        };
        // `*` is below nothing.
        let below = self.unrouted_below.iter().filter(|(prefix, _)| is_below(path, prefix));
        let nearest = below.max_by_key(|(prefix, _)| prefix.len()).map_or(UNROUTED, |(_, route)| *route);
        self.miss(nearest, status)
    }

    #[cold]
    fn miss_unhandled(&self, route: u32, method: &Method) -> Result<Target, Miss> {
        let status = match *method {
            Method::OPTIONS => StatusCode::NO_CONTENT,
            _ if self.knows(method) => StatusCode::METHOD_NOT_ALLOWED,
            // RFC 9110 section 15.6.2.
            _ => Refusal::MethodUnknown.status(),
        };
        self.miss(route, status)
    }

    /// There is no handler; but if something is before it, that is asked first.
    #[cold]
    fn miss(&self, route: u32, status: StatusCode) -> Result<Target, Miss> {
        let own = self.routes[route as usize].own.iter().find(|(of, _)| *of == status);
        match own {
            Some(&(_, handler)) => Ok(Target { route, handler }),
            None => Err(Miss { status, route: Some(route) }),
        }
    }

    fn knows(&self, method: &Method) -> bool {
        is_common(method) || self.extension_methods.contains(method)
    }
}

fn is_below(path: &[u8], prefix: &str) -> bool {
    path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
}

/// The parser lets only ASCII into a path.
#[inline]
fn text_of(path: &[u8]) -> &str {
    str::from_utf8(path).unwrap_or_default()
}
