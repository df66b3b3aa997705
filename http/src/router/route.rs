//! One path of a router: its handlers by method, and the names of its parameters.
use std::rc::Rc;

use http::{HeaderValue, Method, StatusCode};

use crate::around::Around;
use crate::handler::{AnyHandler, Handler, erase};

/// One path.
pub(super) struct Route {
    pub(super) path: Box<str>,
    /// The names of its parameters, in order.
    pub(super) param_names: Rc<[Box<str>]>,
    /// With the method that each is for by name.
    pub(super) handlers: Vec<(Option<Method>, Box<dyn AnyHandler>)>,
    /// What stands around the handlers, where `seal` puts it.
    pub(super) around: Option<Rc<Around>>,
    /// What the content of a request may have, in bytes, if not what the server says.
    pub(super) body_bytes: Option<u64>,
    /// The index of the handler for GET, which is asked for most.
    pub(super) get: Option<u32>,
    /// The index of the handler for methods that have none of their own.
    pub(super) any: Option<u32>,
    /// What that one serves, as far as it says so.
    pub(super) any_methods: &'static [Method],
    /// The indices of handlers that give what the router answers in a handler's place, where something is before that.
    pub(super) own: Vec<(StatusCode, u32)>,
    /// The value of the Allow field.
    pub(super) allow: HeaderValue,
}

impl Route {
    pub(super) fn new(path: &str) -> Route {
        Route {
            path: path.into(),
            param_names: param_names(path).map(Box::from).collect(),
            handlers: Vec::new(),
            around: None,
            body_bytes: None,
            get: None,
            any: None,
            any_methods: &[],
            own: Vec::new(),
            allow: HeaderValue::from_static(""),
        }
    }

    #[track_caller]
    pub(super) fn push_any(&mut self, handler: impl Handler) {
        assert!(self.any.is_none(), "two handlers for any method of {}", self.path);
        let index = self.handlers.len() as u32;
        self.any = Some(index);
        self.any_methods = handler.methods();
        self.get = self.get.or(self.any);
        self.handlers.push((None, erase(handler)));
        self.note_allowed();
    }

    #[track_caller]
    pub(super) fn push(&mut self, method: Method, handler: impl Handler) {
        assert!(self.methods().all(|known| *known != method), "two handlers for {method} {}", self.path);
        if method == Method::GET {
            self.get = Some(self.handlers.len() as u32);
        }
        self.handlers.push((Some(method), erase(handler)));
        self.note_allowed();
    }

    pub(super) fn push_own(&mut self, status: StatusCode, handler: Box<dyn AnyHandler>) {
        self.own.push((status, self.handlers.len() as u32));
        self.handlers.push((None, handler));
    }

    /// Whether something is called before or after its handlers.
    pub(super) fn has_hooks(&self) -> bool {
        self.around.as_ref().is_some_and(|around| !around.before.is_empty() || !around.after.is_empty())
    }

    fn note_allowed(&mut self) {
        self.allow = allow(self.allowed());
    }

    /// The methods that it answers, as far as they have names here.
    pub(super) fn allowed(&self) -> impl Iterator<Item = &Method> {
        self.methods().chain(self.any_methods.iter().filter(|method| is_for_any(method)))
    }

    /// The methods that have a handler of their own.
    pub(super) fn methods(&self) -> impl Iterator<Item = &Method> {
        self.handlers.iter().filter_map(|(method, _)| method.as_ref())
    }

    /// The index of the handler for a method. HEAD falls back to GET (RFC 9110 section 9.3.2), others but TRACE to that for any.
    #[inline]
    pub(super) fn find(&self, method: &Method) -> Option<usize> {
        let any = self.any.map(|at| at as usize);
        let position =
            |wanted: &Method| self.handlers.iter().position(|(method, _)| method.as_ref() == Some(wanted));
        position(method)
            .or_else(|| if *method == Method::HEAD { position(&Method::GET) } else { None })
            .or(any.filter(|_| is_for_any(method)))
    }
}

/// The value of the Allow field where there are handlers for these methods.
pub(super) fn allow<'m>(methods: impl Iterator<Item = &'m Method>) -> HeaderValue {
    let mut allowed: Vec<&str> = Vec::new();
    for method in methods {
        let with_get = (*method == Method::GET).then_some("HEAD");
        for name in [method.as_str()].into_iter().chain(with_get) {
            if !allowed.contains(&name) {
                allowed.push(name);
            }
        }
    }
    if !allowed.contains(&"OPTIONS") {
        allowed.push("OPTIONS");
    }
    HeaderValue::from_str(&allowed.join(", ")).expect("methods are tokens")
}

/// Methods that a server is expected to know, handled or not (RFC 9110 section 9, RFC 5789).
static COMMON: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Those of them that a handler for any method has.
pub(crate) static FOR_ANY: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];

/// See [`COMMON`].
pub(crate) fn is_common(method: &Method) -> bool {
    COMMON.contains(method)
}

/// Whether a handler for any method has this one. TRACE has the request sent back, with what the browser keeps from its pages in it
/// (RFC 9110 section 9.3.8): who wants that, names it.
fn is_for_any(method: &Method) -> bool {
    *method != Method::TRACE
}

/// The names in `/{a}/{*b}`, in order; `{{` and `}}` are literal braces.
pub(super) fn param_names(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('{')?;
            rest = &rest[open + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}')?;
            rest = after;
            return Some(name.strip_prefix('*').unwrap_or(name));
        }
    })
}
