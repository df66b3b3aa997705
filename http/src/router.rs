//! Which handler answers: one tree of paths, and for each path a small table of methods.
//!
//! Paths are matched as they were sent; parameters are percent-decoded afterwards, so that an encoded slash stays inside its
//! parameter.
use std::any::{Any, TypeId};
use std::rc::Rc;

use http::{HeaderValue, Method, StatusCode, header};

use crate::around::{After, Around, Before};
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
    /// The same for what is below a path, from nested routers.
    fallbacks_below: Vec<(Box<str>, u32)>,
}

/// One path.
struct Route {
    path: Box<str>,
    /// The names of its parameters, in order.
    param_names: Rc<[Box<str>]>,
    handlers: Vec<(Method, Box<dyn AnyHandler>)>,
    /// What is to stand around the handlers; `seal` puts it there.
    around: Option<Rc<Around>>,
    /// What the content of a request may have, in bytes, if not what the server says.
    body_bytes: Option<u64>,
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
            fallbacks_below: Vec::new(),
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

    /// Calls `before` ahead of the handlers of all routes so far, and of the fallback if it is set. If it comes to an answer, the handler
    /// is not called. What was added last comes first.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Router, StatusCode, IntoResponse};
    ///
    /// let router = Router::new()
    ///     .get("/secret", async |_: Request| "42")
    ///     .before(|request| match request.header("authorization") {
    ///         Some(b"Bearer abc") => None,
    ///         _ => Some(StatusCode::UNAUTHORIZED.into_response()),
    ///     })
    ///     .get("/open", async |_: Request| "hello");
    /// ```
    #[must_use]
    pub fn before(self, before: impl Fn(&mut Request) -> Option<Response> + 'static) -> Router {
        let before: Before = Rc::new(before);
        self.surround(|around| around.before.insert(0, before.clone()))
    }

    /// Passes the answers of all routes so far, and of the fallback if it is set, through `after`, also those of their `before`. What was
    /// added last comes last.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{HeaderValue, Request, Router, header};
    ///
    /// let router = Router::new()
    ///     .get("/", async |_: Request| "hello")
    ///     .after(|answer| answer.with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    /// ```
    #[must_use]
    pub fn after(self, after: impl Fn(Response) -> Response + 'static) -> Router {
        let after: After = Rc::new(after);
        self.surround(|around| around.after.push(after.clone()))
    }

    /// Gives all routes so far a value that [`State`](crate::State) and [`Request::state`] find by its type. It stays on its core, so
    /// it need not be `Send`. A route that has a value of this type keeps it.
    #[must_use]
    pub fn with_state<T: 'static>(self, state: T) -> Router {
        let state: Rc<dyn Any> = Rc::new(state);
        self.surround(|around| around.states.push((TypeId::of::<T>(), state.clone())))
    }

    /// Limits the content of requests to all routes so far, in bytes, instead of [`Limits::body_bytes`](crate::Limits::body_bytes). A
    /// route that has a limit keeps it.
    #[must_use]
    pub fn with_body_limit(mut self, bytes: u64) -> Router {
        for route in &mut self.routes {
            route.body_bytes.get_or_insert(bytes);
        }
        self
    }

    /// Takes the routes of another router below a path; its `/` is the path itself. Its fallback answers for what is below the path.
    /// Handlers see the whole path.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does; for a router with a fallback below a path with parameters.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Router};
    ///
    /// let users = Router::new()
    ///     .get("/", async |_: Request| "all")
    ///     .get("/{id}", async |request: Request| request.param("id").map(str::to_owned));
    /// let router = Router::new().nest("/users", users);
    /// ```
    #[must_use]
    pub fn nest(mut self, path: &str, inner: Router) -> Router {
        let path = path.strip_suffix('/').unwrap_or(path);
        let first = self.routes.len() as u32;
        let mut below = inner.fallbacks_below;
        below.extend(inner.fallback.map(|at| (Box::from(""), at)));
        let mut places = Vec::new();
        for (at, route) in inner.routes.into_iter().enumerate() {
            if below.iter().any(|(_, fallback)| *fallback == at as u32) {
                places.push(self.routes.len() as u32);
                self.routes.push(route);
                continue;
            }
            let whole = match &*route.path {
                "/" if !path.is_empty() => path.to_owned(),
                inside => format!("{path}{inside}"),
            };
            let index = self.index_of(&whole);
            let place = &mut self.routes[index];
            assert!(index as u32 >= first && place.handlers.is_empty(), "two routes for {whole}");
            *place = Route { path: place.path.clone(), param_names: place.param_names.clone(), ..route };
            places.push(index as u32);
        }
        for (inside, at) in below {
            assert!(!path.contains('{'), "a fallback below a path with parameters is not served: {path}");
            self.fallbacks_below.push((format!("{path}{inside}").into(), places[at as usize]));
        }
        for method in inner.extension_methods {
            if !self.extension_methods.contains(&method) {
                self.extension_methods.push(method);
            }
        }
        self
    }

    fn surround(mut self, change: impl Fn(&mut Around)) -> Router {
        for route in &mut self.routes {
            change(Rc::make_mut(route.around.get_or_insert_default()));
        }
        self
    }

    /// Puts everything around its handlers, once all routes are there: a route that has nothing around it pays nothing.
    pub(crate) fn seal(mut self) -> Router {
        for route in &mut self.routes {
            let Some(around) = route.around.take() else { continue };
            let surround = |(method, handler)| (method, Around::surround(&around, handler));
            route.handlers = std::mem::take(&mut route.handlers).into_iter().map(surround).collect();
        }
        self
    }

    /// What the content of a request to this target may have, in bytes, if the route says so.
    pub(crate) fn body_bytes(&self, target: Target) -> Option<u64> {
        self.routes[target.route as usize].body_bytes
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
        let is_below = |prefix: &str| {
            path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
        };
        let below = self.fallbacks_below.iter().filter(|(prefix, _)| is_below(prefix));
        let nearest = below.max_by_key(|(prefix, _)| prefix.len()).map(|(_, route)| *route);
        match nearest.or(self.fallback) {
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
            around: None,
            body_bytes: None,
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

    fn check_router(router: Router, line: &str, expected: &str) {
        let router = router.seal();
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
    fn around_handlers() {
        let mark = |text: &'static str| {
            move |answer: Response| {
                let text = format!("{}{text}", String::from_utf8_lossy(answer.body()));
                Response::text(text).with_status(answer.status())
            }
        };
        let stop = |word: &'static str| {
            move |request: &mut Request| {
                (request.query() == Some(word)).then(|| format!("stopped by {word}").into_response())
            }
        };
        let router = || {
            Router::new()
                .get("/a", async |_: Request| "a")
                .before(stop("x"))
                .before(stop("y"))
                .after(mark("1"))
                .after(mark("2"))
                .get("/b", async |_: Request| "b")
                .with_state(7u32)
                .get("/c", async |request: Request| format!("{:?}", request.state::<u32>()))
                .with_state(8u32)
                .with_state("text")
        };
        check_router(router(), "GET /a", "200 [a12]");
        check_router(router(), "GET /a?x", "200 [stopped by x12]");
        check_router(router(), "GET /a?y", "200 [stopped by y12]");
        check_router(router(), "GET /b?x", "200 [b]");
        check_router(router(), "GET /c", "200 [Some(8)]");
        check_router(router(), "POST /a", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    }

    #[test]
    fn nested() {
        let inner = || {
            Router::new()
                .get("/", async |_: Request| "root")
                .get("/{id}", async |request: Request| format!("id {}", request.param("id").unwrap()))
                .fallback(async |request: Request| format!("none {}", request.path()))
                .after(|answer| answer.with_status(StatusCode::ACCEPTED))
        };
        let router = || {
            Router::new().get("/", async |_: Request| "outer").nest("/in", inner()).nest(
                "/of/{who}/",
                Router::new().get("/it", async |request: Request| format!("{:?}", request.param("who"))),
            )
        };
        check_router(router(), "GET /", "200 [outer]");
        check_router(router(), "GET /in", "202 [root]");
        check_router(router(), "GET /in/7", "202 [id 7]");
        check_router(router(), "GET /in/7/8", "202 [none /in/7/8]");
        check_router(router(), "GET /of/me/it", "200 [Some(\"me\")]");
        check_router(router(), "GET /out", "404 [Not Found]");
        check_router(router(), "GET /inn", "404 [Not Found]");
        check_router(Router::new().nest("/x", router()), "GET /x/in/7/8", "202 [none /x/in/7/8]");
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
