//! Which handler answers: one tree of paths, and for each path a small table of methods.
//!
//! Paths that name the same thing are matched alike, however they are escaped (`escaped`); parameters are percent-decoded afterwards,
//! so that an encoded slash stays inside its parameter. Here a router is put together; `find` is the way of a request through it,
//! `route` one path.
pub(crate) mod escaped;
mod find;
mod route;

use std::any::{Any, TypeId};
use std::rc::Rc;
use std::time::Duration;

use http::Method;

use crate::around::{After, Around, Before};
use crate::handler::Handler;
use crate::request::Request;
use crate::response::Response;

use find::OWN;
pub(crate) use find::{Miss, Target};
use route::Route;
pub(crate) use route::{FOR_ANY, is_common};

/// Comparing this many paths costs no more than the walk through the tree: most differ in length.
const LANE_PATHS_MAX: usize = 8;
/// The index in `routes` of what stands around the answers for paths that no route and no fallback has. It has no path, and no handlers
/// but those of `seal`.
const UNROUTED: u32 = 0;

/// The routes of one core.
///
/// `{name}` in a path stands for one segment, `{*name}` for the rest. HEAD is answered by the handler of GET, OPTIONS by the
/// router, `OPTIONS *` with the methods of all routes unless some handler takes any.
///
/// A path is matched however it is escaped: `/%70rivate` is `/private`, and `/my%20files` is the route `/my files`. Only `%2F` is not
/// the slash that separates segments (RFC 3986 sections 2.2 and 6.2.2). Capital letters and a second slash make another path.
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
    /// What stands around the answers for paths that no route and no fallback has, as a route: below a path, from nested routers. That
    /// below all is [`UNROUTED`].
    unrouted_below: Vec<(Box<str>, u32)>,
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
            routes: vec![Route::new("")],
            extension_methods: Vec::new(),
            fallback: None,
            fallbacks_below: Vec::new(),
            unrouted_below: Vec::new(),
        }
    }

    /// Adds a handler for GET and HEAD.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for PUT.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for PATCH.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for DELETE.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for any method.
    ///
    /// # Panics
    ///
    /// When the path is malformed or in conflict with another, or has a handler for this method already, and for CONNECT, which has no
    /// path (the server answers it with 501): mistakes of the program. So is a segment that begins with `:` or `*`, which is a parameter
    /// elsewhere; where it is meant literally, `%3A` or `%2A` is written.
    #[must_use]
    #[track_caller]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Router {
        assert!(
            method != Method::CONNECT,
            "CONNECT has no path to be routed by; the server answers it with 501"
        );
        let index = self.index_of(path);
        if !is_common(&method) && !self.extension_methods.contains(&method) {
            self.extension_methods.push(method.clone());
        }
        self.routes[index].push(method, handler);
        self
    }

    /// Adds a handler for every method that has none of its own at this path, known or not. It answers OPTIONS too. Only TRACE, which
    /// is to send the request back with all the secrets in it, has to be named by a [`route`](Router::route), or it is answered 405.
    ///
    /// # Panics
    ///
    /// As [`route`](Router::route) does.
    #[must_use]
    #[track_caller]
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let index = self.index_of(path);
        self.routes[index].push_any(handler);
        self
    }

    /// Sets the handler for paths that no route has, whatever the method but TRACE, as [`any`](Router::any); instead of 404.
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
    #[track_caller]
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        assert!(self.fallback.is_none(), "two fallbacks");
        self.fallback = Some(self.routes.len() as u32);
        let mut route = Route::new("*");
        route.push_any(handler);
        self.routes.push(route);
        self
    }

    /// Calls `before` ahead of the handlers of all routes so far, of the fallback if it is set, and of what the router answers in their
    /// place: 405, 204 to OPTIONS, 400 for a parameter that is no UTF-8 (which is not there then), 501 for a method that it does not know,
    /// 404 for paths that no route has. Those are the answers that [`after`](Router::after) passes, in nested routers too. If it comes to
    /// an answer, nothing else is called. What was added last comes first. It cannot wait: [`before_async`](Router::before_async) can.
    ///
    /// A fallback that is set later answers unguarded for paths that no route has, below those of nested routers too. To guard all of a
    /// folder, [`nest`](Router::nest) a router whose own fallback serves it:
    ///
    /// ```
    /// use annulet_http::{IntoResponse, Router, ServeDir, StatusCode};
    ///
    /// # let files = ServeDir::new(std::env::temp_dir()).unwrap();
    /// let private = Router::new()
    ///     .fallback(files.clone())
    ///     .before(|_| Some(StatusCode::UNAUTHORIZED.into_response()));
    /// let router = Router::new().nest("/private", private).fallback(files);
    /// ```
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
    ///
    /// A page of another origin asks first what it may do (CORS), and reads only what allows it to:
    ///
    /// ```
    /// use annulet_http::offline::Offline;
    /// use annulet_http::{HeaderValue, IntoResponse, Limits, Method, Request, Response, Router, StatusCode, header};
    ///
    /// const ORIGIN: HeaderValue = HeaderValue::from_static("https://app.example");
    /// const METHODS: HeaderValue = HeaderValue::from_static("GET, PUT");
    ///
    /// fn preflight(request: &mut Request) -> Option<Response> {
    ///     request.header("access-control-request-method").filter(|_| request.method() == Method::OPTIONS)?;
    ///     let answer = StatusCode::NO_CONTENT.into_response();
    ///     Some(answer.with_header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
    /// }
    ///
    /// let router = Router::new()
    ///     .put("/note", async |_: Request| "kept")
    ///     .before(preflight)
    ///     .after(|answer| answer.with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN));
    ///
    /// let server = Offline::new(router, Limits::default());
    /// let answer = |head: &str| {
    ///     let mut answers = Vec::new();
    ///     let head = format!("{head}\r\nHost: a\r\nAccess-Control-Request-Method: PUT\r\n\r\n");
    ///     server.answer(head.as_bytes(), std::time::Instant::now(), &mut answers);
    ///     String::from_utf8(answers).unwrap()
    /// };
    /// let asked = answer("OPTIONS /note HTTP/1.1");
    /// assert!(asked.contains("access-control-allow-methods: GET, PUT\r\n"));
    /// assert!(asked.contains("access-control-allow-origin: https://app.example\r\n"));
    /// let missed = answer("GET /nowhere HTTP/1.1");
    /// assert!(missed.starts_with("HTTP/1.1 404 ") && missed.contains("access-control-allow-origin: "));
    /// ```
    #[must_use]
    pub fn before(self, before: impl Fn(&mut Request) -> Option<Response> + 'static) -> Router {
        self.add_before(&Before::Now(Rc::new(before)))
    }

    /// As [`before`](Router::before), for what has to wait, such as a question to a session store; both have one order. When the client
    /// goes meanwhile it is dropped, and its time counts as the handler's ([`with_time_limit`](Router::with_time_limit)). Content that it
    /// reads is not there for the handler.
    ///
    /// What the handler needs of what was found is left with the request ([`Request::set_extension`]), or taken out of it by an extractor
    /// ([`FromRequest`](crate::FromRequest)), which can wait as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{IntoResponse, Request, Router, StatusCode};
    ///
    /// async fn is_known(session: &str) -> bool {
    ///     // A store somewhere else is asked here.
    ///     annulet::yield_now().await;
    ///     session == "abc"
    /// }
    ///
    /// let router = Router::new()
    ///     .get("/secret", async |_: Request| "42")
    ///     .before_async(async |request: &mut Request| match request.cookie("session") {
    ///         Some(session) if is_known(session).await => None,
    ///         _ => Some(StatusCode::UNAUTHORIZED.into_response()),
    ///     });
    /// ```
    #[must_use]
    pub fn before_async(self, before: impl AsyncFn(&mut Request) -> Option<Response> + 'static) -> Router {
        let before = Rc::new(before);
        self.add_before(&Before::Later(Rc::new(move |mut request| {
            let before = before.clone();
            Box::pin(async move {
                let answer = before(&mut request).await;
                (request, answer)
            })
        })))
    }

    /// Passes the answers of all routes so far, and of the fallback if it is set, through `after`. What was added last comes last.
    ///
    /// These are those of handlers and of what is `before` them, the 500 for one that panics, the 503 for one that takes too long, and
    /// what the router answers in their place: 405, 204 to OPTIONS, 400 for a parameter that is no UTF-8, 501 for a method that it does not
    /// know. The 404 for paths that no route has is passed as well, unless a [`fallback`](Router::fallback) answers for them; below the
    /// path of a [nested](Router::nest) router with an `after` or a [`before`](Router::before), if that path has no parameters, it is the
    /// nested one's.
    ///
    /// Not passed: what the server answers before it asks for a route, to requests that are malformed, too large (by what they announce)
    /// or misdirected.
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

    /// Gives all routes so far, and what is [`before`](Router::before) the router's own answers, a value that [`State`](crate::State) and
    /// [`Request::state`] find by its type. It stays on its core, so it need not be `Send`. A route that has a value of this type keeps it.
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

    /// Gives the handlers of all routes so far so much time, from where they first have to wait until they answer; those that read the
    /// content of a request as they go, that included. Beyond: they are dropped, and 503 is answered. Content that is made while it leaves
    /// has the time that it needs. A route that has such a limit keeps it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use annulet_http::{Request, Router};
    ///
    /// let router = Router::new()
    ///     .get("/report", async |_: Request| "slow")
    ///     .with_time_limit(Duration::from_secs(30))
    ///     .get("/", async |_: Request| "index");
    /// ```
    #[must_use]
    pub fn with_time_limit(self, time: Duration) -> Router {
        self.surround(|around| {
            around.time_max.get_or_insert(time);
        })
    }

    /// Takes the routes of another router below a path; its `/` is the path itself. Its fallback answers for what is below the path;
    /// without one, this router's does, past what is around the nested routes. Handlers see the whole path.
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
    #[track_caller]
    pub fn nest(mut self, path: &str, inner: Router) -> Router {
        refuse_old_patterns(path);
        let path = &*escaped::of_route(path.strip_suffix('/').unwrap_or(path));
        let first = self.routes.len() as u32;
        let mut below = inner.fallbacks_below;
        below.extend(inner.fallback.map(|at| (Box::from(""), at)));
        let mut unrouted_below = inner.unrouted_below;
        unrouted_below.push((Box::from(""), UNROUTED));
        let mut places = Vec::new();
        for (at, route) in (0..).zip(inner.routes) {
            if let Some((inside, _)) = unrouted_below.iter().find(|(_, of)| *of == at) {
                places.push(self.routes.len() as u32);
                // What is below a path with parameters is not looked for, and below all the outer router answers.
                let below = format!("{path}{inside}");
                if !below.is_empty() && !path.contains('{') && route.has_hooks() {
                    self.unrouted_below.push((below.into(), self.routes.len() as u32));
                    self.routes.push(route);
                }
                continue;
            }
            if below.iter().any(|(_, fallback)| *fallback == at) {
                places.push(self.routes.len() as u32);
                self.routes.push(route);
                continue;
            }
            let whole = match &*route.path {
                "/" if !path.is_empty() => path.to_owned(),
                inside => format!("{path}{inside}"),
            };
            let index = self.index_of_matched(&whole);
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

    /// Ahead of those that are there.
    fn add_before(self, before: &Before) -> Router {
        self.surround(|around| around.before.insert(0, before.clone()))
    }

    fn surround(mut self, change: impl Fn(&mut Around)) -> Router {
        for route in &mut self.routes {
            change(Rc::make_mut(route.around.get_or_insert_default()));
        }
        self
    }

    /// Puts everything around its handlers, once all routes are there: a route that has nothing around it pays nothing.
    pub(crate) fn seal(mut self) -> Router {
        for at in 0..self.routes.len() {
            // It stays there for what is answered in a handler's place.
            let Some(around) = self.routes[at].around.clone() else { continue };
            if !around.before.is_empty() {
                for status in OWN {
                    let handler = Box::new(self.own_answer(status, at as u32));
                    self.routes[at].push_own(status, handler);
                }
            }
            let route = &mut self.routes[at];
            let surround = |(method, handler)| (method, Around::surround(&around, handler));
            route.handlers = std::mem::take(&mut route.handlers).into_iter().map(surround).collect();
        }
        self
    }

    /// The index of the route for this path, which is added if it is new.
    #[track_caller]
    fn index_of(&mut self, path: &str) -> usize {
        refuse_old_patterns(path);
        self.index_of_matched(&escaped::of_route(path))
    }

    /// As `index_of`, of a path in the form of `escaped::of_route`.
    #[track_caller]
    fn index_of_matched(&mut self, path: &str) -> usize {
        assert!(path.starts_with('/'), "a path begins with a slash: {path:?}");
        if let Some(index) = self.routes.iter().position(|route| *route.path == *path) {
            return index;
        }
        let index = self.routes.len();
        // Not a closure: the panic names the caller's line.
        if let Err(error) = self.tree.insert(path, index as u32) {
            panic!("{path}: {error}");
        }
        self.routes.push(Route::new(path));
        self.note_lanes(path, index as u32);
        index
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
}

/// `/:id` and `/*rest` are parameters elsewhere; taken literally, they would be found by nobody.
#[track_caller]
fn refuse_old_patterns(path: &str) {
    for segment in path.split('/') {
        let pattern = match segment.as_bytes() {
            [b':', ..] => format!("{{{}}}", if segment.len() > 1 { &segment[1..] } else { "name" }),
            [b'*', ..] => format!("{{*{}}}", if segment.len() > 1 { &segment[1..] } else { "rest" }),
            _ => continue,
        };
        let literal = if segment.starts_with(':') { "%3A" } else { "%2A" };
        panic!(
            "{path}: a parameter is written /{pattern}, not /{segment}; what is meant literally begins with {literal}"
        );
    }
}

impl Default for Router {
    fn default() -> Router {
        Router::new()
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let routes = self.routes.iter().filter(|route| !route.path.is_empty());
        f.debug_list().entries(routes.map(|route| (&route.path, &route.allow))).finish()
    }
}

#[cfg(test)]
mod tests;
