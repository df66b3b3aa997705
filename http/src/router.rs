//! Which handler answers: one tree of paths, and for each path a small table of methods.
//!
//! Paths are matched as they were sent; parameters are percent-decoded afterwards, so that an encoded slash stays inside its
//! parameter.
use std::rc::Rc;

use http::{HeaderValue, Method, StatusCode, header};

use crate::h1::Refusal;
use crate::h1::head::{Head, Span};
use crate::handler::{AnyHandler, Called, Handler, erase};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Comparing this many paths costs no more than the walk through the tree, most differ in length.
const LITERALS_MAX: usize = 8;

/// The routes of one core.
///
/// `{name}` in a path stands for one segment, `{*name}` for the rest. HEAD is answered by the handler of GET, OPTIONS by the
/// router.
///
/// # Examples
///
/// ```
/// use annulet_http::{Request, Response, Router};
///
/// let router = Router::new()
///     .get("/", async |_: Request| Response::html("<h1>Index</h1>"))
///     .get("/hello/{name}", async |request: Request| request.param("name").unwrap_or_default().to_owned());
/// ```
#[derive(Default)]
pub struct Router {
    /// From a path to an index in `routes`.
    tree: matchit::Router<u32>,
    /// Up to a few paths without parameters, looked at before the tree.
    literal: Vec<(Box<str>, u32)>,
    routes: Vec<Route>,
    /// Methods beyond the common ones that some route knows: others are answered 501, not 405.
    extension_methods: Vec<Method>,
}

/// One path.
struct Route {
    path: Box<str>,
    /// The names of its parameters, in order.
    param_names: Rc<[Box<str>]>,
    /// In the order of registration: the first few lookups decide, and GET usually comes first.
    handlers: Vec<(Method, Box<dyn AnyHandler>)>,
    /// The value of the Allow field.
    allow: HeaderValue,
}

/// A handler that was found; good for the router that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    route: u32,
    handler: u32,
}

impl Router {
    /// A router without routes: it answers 404.
    #[must_use]
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a handler for GET and HEAD.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for PUT.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for DELETE.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for any method.
    ///
    /// # Panics
    ///
    /// When the path is malformed or in conflict with another, or has a handler for this method already: mistakes of the program.
    #[must_use]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Router {
        assert!(path.starts_with('/'), "a path begins with a slash: {path:?}");
        let index = self.routes.iter().position(|route| *route.path == *path).unwrap_or_else(|| {
            let index = self.routes.len();
            self.tree.insert(path, index as u32).unwrap_or_else(|error| panic!("{path}: {error}"));
            self.routes.push(Route::new(path));
            if self.literal.len() < LITERALS_MAX && !path.contains(['{', '}']) {
                self.literal.push((path.into(), index as u32));
            }
            index
        });
        if !is_common(&method) && !self.extension_methods.contains(&method) {
            self.extension_methods.push(method.clone());
        }
        self.routes[index].push(method, handler);
        self
    }

    /// Finds the handler for a request and puts the parameters into it, or answers itself. `bytes` are the head's.
    #[inline]
    pub(crate) fn find(&self, head: &Head, bytes: &[u8], request: &mut Request) -> Result<Target, Response> {
        let path = &bytes[head.path.range()];
        if let Some(&(_, index)) = self.literal.iter().find(|(literal, _)| literal.as_bytes() == path) {
            return self.find_handler(index, request.method());
        }
        self.find_in_tree(path, head.path.start, request)
    }

    fn find_in_tree(&self, path: &[u8], start: u16, request: &mut Request) -> Result<Target, Response> {
        // The parser lets only ASCII into a path.
        let path = str::from_utf8(path).unwrap_or_default();
        let Ok(found) = self.tree.at(path) else {
            return Err(self.answer_unrouted(path, request.method()));
        };
        let target = self.find_handler(*found.value, request.method())?;
        let names = &self.routes[*found.value as usize].param_names;
        if !names.is_empty() {
            for (_, value) in found.params.iter() {
                let within = Span::of(value.as_bytes(), path.as_bytes());
                let span = Span { start: start + within.start, len: within.len };
                request.push_param(span).map_err(|why| why.status().into_response())?;
            }
            request.set_param_names(names);
        }
        Ok(target)
    }

    #[inline]
    fn find_handler(&self, index: u32, method: &Method) -> Result<Target, Response> {
        let route = &self.routes[index as usize];
        match route.find(method) {
            Some(handler) => Ok(Target { route: index, handler: handler as u32 }),
            None => Err(self.answer_unhandled(route, method)),
        }
    }

    /// Calls the handler and polls it once.
    #[inline]
    pub(crate) fn call(&self, target: Target, request: Request, cx: &mut std::task::Context<'_>) -> Called {
        let route = &self.routes[target.route as usize];
        route.handlers[target.handler as usize].1.start(request, cx)
    }

    #[cold]
    fn answer_unrouted(&self, path: &str, method: &Method) -> Response {
        match (self.knows(method), path) {
            (false, _) => Refusal::MethodUnknown.status().into_response(),
            // RFC 9110 section 9.3.7: the server as a whole is asked.
            (true, "*") => Response::new(StatusCode::NO_CONTENT),
            (true, _) => StatusCode::NOT_FOUND.into_response(),
        }
    }

    #[cold]
    fn answer_unhandled(&self, route: &Route, method: &Method) -> Response {
        let answer = match *method {
            Method::OPTIONS => Response::new(StatusCode::NO_CONTENT),
            _ if self.knows(method) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            // RFC 9110 section 15.6.2.
            _ => return Refusal::MethodUnknown.status().into_response(),
        };
        answer.with_header(header::ALLOW, route.allow.clone())
    }

    fn knows(&self, method: &Method) -> bool {
        is_common(method) || self.extension_methods.contains(method)
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|route| (&route.path, &route.allow))).finish()
    }
}

impl Route {
    fn new(path: &str) -> Route {
        Route {
            path: path.into(),
            param_names: param_names(path).map(Box::from).collect(),
            handlers: Vec::new(),
            allow: HeaderValue::from_static(""),
        }
    }

    fn push(&mut self, method: Method, handler: impl Handler) {
        assert!(
            self.handlers.iter().all(|(known, _)| *known != method),
            "two handlers for {method} {}",
            self.path
        );
        self.handlers.push((method, erase(handler)));
        let mut allowed = Vec::new();
        for (method, _) in &self.handlers {
            allowed.push(method.as_str());
            if *method == Method::GET {
                allowed.push("HEAD");
            }
        }
        if !allowed.contains(&"OPTIONS") {
            allowed.push("OPTIONS");
        }
        allowed.dedup();
        self.allow = HeaderValue::from_str(&allowed.join(", ")).expect("methods are tokens");
    }

    /// The index of the handler for a method. HEAD falls back to GET (RFC 9110 section 9.3.2).
    #[inline]
    fn find(&self, method: &Method) -> Option<usize> {
        let position = |wanted: &Method| self.handlers.iter().position(|(method, _)| method == wanted);
        position(method).or_else(|| if *method == Method::HEAD { position(&Method::GET) } else { None })
    }
}

/// Methods that a server is expected to know, handled or not (RFC 9110 section 9, RFC 5789).
fn is_common(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

/// The names in `/{a}/{*b}`, in order; `{{` and `}}` are literal braces.
fn param_names(path: &str) -> impl Iterator<Item = &str> {
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Parse, Parser};

    fn router() -> Router {
        let echo = async |request: Request| {
            let names = ["name", "a", "b", "rest"];
            let params: Vec<_> =
                names.iter().filter_map(|n| Some(format!("{n}={}", request.param(n)?))).collect();
            format!("{} {}", request.method(), params.join(" "))
        };
        Router::new()
            .get("/", async |_: Request| "index")
            .get("/hello/{name}", echo)
            .post("/hello/{name}", echo)
            .get("/two/{a}/x/{b}", echo)
            .get("/files/{*rest}", echo)
            .get("/literal/{{x}}", echo)
            .route(Method::from_bytes(b"PURGE").unwrap(), "/cache", async |_: Request| "purged")
            .route(Method::OPTIONS, "/own", async |_: Request| "own")
    }

    /// Status, Allow if there is one, content.
    fn check(line: &str, expected: &str) {
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut request = Request::take();
        let parsed = Parser::new(Limits::default()).parse(input.as_bytes(), request.fields_mut());
        let Parse::Complete(head) = parsed else { panic!("{line}") };
        request.fill(&head, input.as_bytes());
        let router = router();
        let answer = router.find(&head, input.as_bytes(), &mut request).map(|target| {
            match router.call(target, request, &mut Context::from_waker(Waker::noop())) {
                Called::Ready(answer) => answer,
                Called::Pending(_) => panic!("pending"),
            }
        });
        let answer = answer.unwrap_or_else(|answer| answer);
        let mut text = answer.status().as_str().to_owned();
        for (name, value) in answer.headers() {
            text += &format!(" {name}: {}", value.to_str().unwrap());
        }
        text += &format!(" [{}]", String::from_utf8_lossy(answer.body()));
        assert_eq!(text, expected, "{line}");
    }

    #[test]
    fn routes() {
        check("GET /", "200 [index]");
        check("GET /?q", "200 [index]");
        check("HEAD /", "200 [index]");
        check("GET /hello/bob", "200 [GET name=bob]");
        check("POST /hello/bob", "200 [POST name=bob]");
        check("GET /hello/a%20b%2Fc%C3%A9", "200 [GET name=a b/c\u{e9}]");
        check("GET /hello/100%25", "200 [GET name=100%]");
        check("GET /two/%41/x/B", "200 [GET a=A b=B]");
        check("GET /two/A/x/%42%43", "200 [GET a=A b=BC]");
        check("GET /files/a/b", "200 [GET rest=a/b]");
        check("PURGE /cache", "200 [purged]");
        check("OPTIONS /own", "200 [own]");
        check("GET http://b/hello/bob", "200 [GET name=bob]");
    }

    #[test]
    fn what_the_router_answers_itself() {
        check("GET /nowhere", "404 [Not Found]");
        check("GET /hello/", "404 [Not Found]");
        check("GET /hello", "404 [Not Found]");
        check("GET /hello/a/b", "404 [Not Found]");
        check("GET //", "404 [Not Found]");
        check("POST /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
        check("TRACE /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
        check("PURGE /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
        check("PUT /hello/bob", "405 allow: GET, HEAD, POST, OPTIONS [Method Not Allowed]");
        check("HEAD /cache", "405 allow: PURGE, OPTIONS [Method Not Allowed]");
        check("OPTIONS /hello/bob", "204 allow: GET, HEAD, POST, OPTIONS []");
        check("OPTIONS *", "204 []");
        check("BREW /", "501 [Not Implemented]");
        check("BREW /nowhere", "501 [Not Implemented]");
        check("GET /hello/%ff", "400 [Bad Request]");
    }

    #[test]
    fn mistakes_of_the_program() {
        let check = |build: fn() -> Router| assert!(std::panic::catch_unwind(build).is_err());
        check(|| Router::new().get("a", async |_: Request| ""));
        check(|| Router::new().get("/{a", async |_: Request| ""));
        check(|| Router::new().get("/{a}", async |_: Request| "").get("/{b}", async |_: Request| ""));
        check(|| Router::new().get("/a", async |_: Request| "").get("/a", async |_: Request| ""));
    }

    #[test]
    fn names() {
        let check = |path: &str, expected: &[&str]| {
            assert_eq!(param_names(path).collect::<Vec<_>>(), expected);
        };
        check("/", &[]);
        check("/{a}/x{b}/{*c}", &["a", "b", "c"]);
        check("/{{a}}/{b}", &["b"]);
    }
}
