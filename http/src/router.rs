//! Which handler answers: one tree of paths, and for each path a small table of methods.
//!
//! Paths are matched as they were sent; parameters are percent-decoded afterwards, so that an encoded slash stays inside its
//! parameter.
use std::rc::Rc;

use http::{HeaderValue, Method, StatusCode, header};

use crate::h1::{Refusal, same};
use crate::handler::{AnyHandler, Handler, PendingCall, erase};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Comparing this many paths costs no more than the walk through the tree: most differ in length.
const LANE_PATHS_MAX: usize = 8;

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
pub struct Router {
    /// From a path to an index in `routes`.
    tree: matchit::Router<u32>,
    /// Up to a few paths without parameters, looked at before the tree.
    literal: Vec<(Box<str>, u32)>,
    /// Up to a few paths that end in their only parameter: what stands before it.
    prefixed: Vec<(Box<str>, u32)>,
    /// Whether every path is in one of these two lanes, so that the tree need not be asked.
    is_simple: bool,
    routes: Vec<Route>,
    /// Methods beyond the common ones that some route knows: others are answered 501, not 405.
    extension_methods: Vec<Method>,
    /// The index in `routes` of what answers for paths that no route has.
    fallback: Option<u32>,
}

/// One path.
struct Route {
    path: Box<str>,
    /// The names of its parameters, in order.
    param_names: Rc<[Box<str>]>,
    handlers: Vec<(Method, Box<dyn AnyHandler>)>,
    /// The index of the handler for GET, which is asked for most.
    get: Option<u32>,
    /// The index of the handler for methods that have none of their own.
    any: Option<u32>,
    /// The value of the Allow field.
    allow: HeaderValue,
}

/// A handler that was found; good for the router that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    route: u32,
    handler: u32,
}

/// Why there is no handler: small, where an answer is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    status: StatusCode,
    /// The route whose methods the answer is to name.
    allow: Option<u32>,
}

impl Miss {
    fn new(status: StatusCode) -> Miss {
        Miss { status, allow: None }
    }
}

impl Router {
    /// A router without routes: it answers 404.
    #[must_use]
    pub fn new() -> Router {
        Router {
            tree: matchit::Router::new(),
            literal: Vec::new(),
            prefixed: Vec::new(),
            is_simple: true,
            routes: Vec::new(),
            extension_methods: Vec::new(),
            fallback: None,
        }
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
        let index = self.index_of(path);
        if !is_common(&method) && !self.extension_methods.contains(&method) {
            self.extension_methods.push(method.clone());
        }
        self.routes[index].push(method, handler);
        self
    }

    /// Adds a handler for every method that has none of its own at this path, known or not. It answers OPTIONS too.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let index = self.index_of(path);
        self.routes[index].push_any(handler);
        self
    }

    /// Sets the handler for paths that no route has, whatever the method; instead of 404.
    ///
    /// `OPTIONS *` is still the router's to answer.
    ///
    /// # Panics
    ///
    /// When there is one already.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Router, StatusCode};
    ///
    /// let router = Router::new()
    ///     .get("/", async |_: Request| "index")
    ///     .fallback(async |request: Request| (StatusCode::NOT_FOUND, format!("no {}", request.path())));
    /// ```
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        assert!(self.fallback.is_none(), "two fallbacks");
        self.fallback = Some(self.routes.len() as u32);
        let mut route = Route::new("*");
        route.push_any(handler);
        self.routes.push(route);
        self
    }

    /// The index of the route for this path, which is added if it is new.
    fn index_of(&mut self, path: &str) -> usize {
        assert!(path.starts_with('/'), "a path begins with a slash: {path:?}");
        self.routes.iter().position(|route| *route.path == *path).unwrap_or_else(|| {
            let index = self.routes.len();
            self.tree.insert(path, index as u32).unwrap_or_else(|error| panic!("{path}: {error}"));
            self.routes.push(Route::new(path));
            self.note_lanes(path, index as u32);
            index
        })
    }

    /// Keeps the lanes beside the tree for a new path.
    fn note_lanes(&mut self, path: &str, index: u32) {
        let prefix = path.strip_suffix('}').and_then(|path| path.rsplit_once("/{")).map(|(prefix, _)| prefix);
        match prefix {
            None if self.literal.len() < LANE_PATHS_MAX && !path.contains(['{', '}']) => {
                self.literal.push((path.into(), index));
            }
            Some(prefix)
                if self.prefixed.len() < LANE_PATHS_MAX
                    && !prefix.contains(['{', '}'])
                    && !path[prefix.len() + 2..].starts_with(['*', '{']) =>
            {
                self.prefixed.push((format!("{prefix}/").into(), index));
            }
            _ => self.is_simple = false,
        }
    }

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
        if self.is_simple {
            return self.find_prefixed(path, is_get, request);
        }
        self.find_in_tree(path, is_get, request)
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
        self.fill_params(index, std::iter::once(text_of(value)), request)?;
        Ok(target)
    }

    #[inline]
    fn fill_params<'p>(
        &self,
        index: u32,
        values: impl Iterator<Item = &'p str>,
        request: &mut Request,
    ) -> Result<(), Miss> {
        let names = &self.routes[index as usize].param_names;
        if !names.is_empty() {
            for value in values {
                request.push_param(value).map_err(|why| Miss::new(why.status()))?;
            }
            request.set_param_names(names);
        }
        Ok(())
    }

    fn find_in_tree(&self, path: &[u8], is_get: bool, request: &mut Request) -> Result<Target, Miss> {
        let Ok(found) = self.tree.at(text_of(path)) else {
            return self.find_fallback(path, request.method());
        };
        let target = self.find_handler(*found.value, is_get, request.method())?;
        self.fill_params(*found.value, found.params.iter().map(|(_, value)| value), request)?;
        Ok(target)
    }

    #[inline(always)]
    fn find_handler(&self, index: u32, is_get: bool, method: &Method) -> Result<Target, Miss> {
        let route = &self.routes[index as usize];
        let found = if is_get { route.get } else { route.find(method).map(|at| at as u32) };
        match found {
            Some(handler) => Ok(Target { route: index, handler }),
            None => Err(self.miss_unhandled(index, method)),
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

    /// The answer in place of a handler's.
    #[cold]
    pub(crate) fn answer(&self, miss: Miss) -> Response {
        let answer = miss.status.into_response();
        match miss.allow {
            Some(route) => answer.with_header(header::ALLOW, self.routes[route as usize].allow.clone()),
            None => answer,
        }
    }

    #[cold]
    fn find_fallback(&self, path: &[u8], method: &Method) -> Result<Target, Miss> {
        match self.fallback {
            Some(route) if path != b"*" => Ok(Target { route, handler: 0 }),
            _ => Err(self.miss_unrouted(path, method)),
        }
    }

    #[cold]
    fn miss_unrouted(&self, path: &[u8], method: &Method) -> Miss {
        Miss::new(match (self.knows(method), path) {
            (false, _) => Refusal::MethodUnknown.status(),
            // RFC 9110 section 9.3.7: the server as a whole is asked.
            (true, b"*") => StatusCode::NO_CONTENT,
            (true, _) => StatusCode::NOT_FOUND,
        })
    }

    #[cold]
    fn miss_unhandled(&self, route: u32, method: &Method) -> Miss {
        match *method {
            Method::OPTIONS => Miss { status: StatusCode::NO_CONTENT, allow: Some(route) },
            _ if self.knows(method) => Miss { status: StatusCode::METHOD_NOT_ALLOWED, allow: Some(route) },
            // RFC 9110 section 15.6.2.
            _ => Miss::new(Refusal::MethodUnknown.status()),
        }
    }

    fn knows(&self, method: &Method) -> bool {
        is_common(method) || self.extension_methods.contains(method)
    }
}

impl Default for Router {
    fn default() -> Router {
        Router::new()
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
            get: None,
            any: None,
            allow: HeaderValue::from_static(""),
        }
    }

    fn push_any(&mut self, handler: impl Handler) {
        assert!(self.any.is_none(), "two handlers for any method of {}", self.path);
        let index = self.handlers.len() as u32;
        self.any = Some(index);
        self.get = self.get.or(self.any);
        // Never compared with a request's: `find` leaves it out.
        self.handlers.push((Method::default(), erase(handler)));
    }

    fn push(&mut self, method: Method, handler: impl Handler) {
        assert!(self.methods().all(|known| *known != method), "two handlers for {method} {}", self.path);
        if method == Method::GET {
            self.get = Some(self.handlers.len() as u32);
        }
        self.handlers.push((method, erase(handler)));
        let mut allowed = Vec::new();
        for method in self.methods() {
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

    /// The methods that have a handler of their own.
    fn methods(&self) -> impl Iterator<Item = &Method> {
        let any = self.any.map(|at| at as usize);
        self.handlers
            .iter()
            .enumerate()
            .filter(move |(at, _)| Some(*at) != any)
            .map(|(_, (method, _))| method)
    }

    /// The index of the handler for a method. HEAD falls back to GET (RFC 9110 section 9.3.2).
    #[inline]
    fn find(&self, method: &Method) -> Option<usize> {
        let any = self.any.map(|at| at as usize);
        let position = |wanted: &Method| {
            self.handlers.iter().enumerate().position(|(at, (method, _))| method == wanted && Some(at) != any)
        };
        position(method)
            .or_else(|| if *method == Method::HEAD { position(&Method::GET) } else { None })
            .or(any)
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

/// The parser lets only ASCII into a path.
#[inline]
fn text_of(path: &[u8]) -> &str {
    str::from_utf8(path).unwrap_or_default()
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
            .any("/any", async |request: Request| format!("any {}", request.method()))
            .put("/any", async |_: Request| "put")
    }

    /// Status, Allow if there is one, content.
    fn check(line: &str, expected: &str) {
        check_router(router(), line, expected);
    }

    #[expect(clippy::needless_pass_by_value)]
    fn check_router(router: Router, line: &str, expected: &str) {
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut request = Request::take();
        let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
        assert_eq!(parsed, Parse::Complete(()), "{line}");
        let answer = match router.find(input.as_bytes(), &mut request) {
            Ok(target) => {
                let (mut cx, mut answer) = (Context::from_waker(Waker::noop()), None);
                assert!(router.call(target, request, &mut cx, &mut answer).is_none(), "pending");
                answer.unwrap()
            }
            Err(miss) => router.answer(miss),
        };
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
    fn any_method() {
        check("GET /any", "200 [any GET]");
        check("HEAD /any", "200 [any HEAD]");
        check("OPTIONS /any", "200 [any OPTIONS]");
        check("BREW /any", "200 [any BREW]");
        check("PUT /any", "200 [put]");
    }

    #[test]
    fn fallbacks() {
        let router = || router().fallback(async |request: Request| format!("none {}", request.path()));
        check_router(router(), "GET /", "200 [index]");
        check_router(router(), "GET /nowhere", "200 [none /nowhere]");
        check_router(router(), "BREW /nowhere", "200 [none /nowhere]");
        check_router(router(), "POST /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
        check_router(router(), "OPTIONS *", "204 []");
        let simple = Router::new().get("/", async |_: Request| "index").fallback(async |_: Request| "none");
        check_router(simple, "GET /a", "200 [none]");
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

    /// Every path is found, or not, as the tree finds it.
    #[test]
    fn the_lanes_agree_with_the_tree() {
        let handler = async |request: Request| format!("{:?}", request.param("x"));
        let mut router = ["/", "/a", "/a/{x}", "/a/b", "/{x}", "/c/d/{x}", "/c/d/"]
            .iter()
            .fold(Router::new(), |router, path| router.get(path, handler));
        let segments = ["", "/", "a", "b", "c", "d", "%41"];
        for path in segments
            .iter()
            .flat_map(|one| {
                segments.iter().flat_map(move |two| {
                    segments.map(|three| [format!("/{one}/{two}/{three}"), format!("/{one}{two}{three}")])
                })
            })
            .flatten()
        {
            let outcomes = [true, false].map(|is_simple| {
                router.is_simple = is_simple;
                let mut request = Request::take();
                let input = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
                assert_eq!(parsed, Parse::Complete(()), "{path}");
                let found = router.find(input.as_bytes(), &mut request).map_err(|miss| miss.status);
                (found, request.param("x").map(str::to_owned))
            });
            assert_eq!(outcomes[0], outcomes[1], "{path}");
        }
        assert!(router.literal.len() == 4 && router.prefixed.len() == 3);
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
