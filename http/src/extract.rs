//! Typed arguments for handlers: what a function asks for is taken out of the request before it is called.
//!
//! [`extract`] makes a handler of such a function. Nothing is boxed on the way: extractors that look at the head only are ready at
//! once.
mod named;

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use self::named::Misfit;
use crate::Error;
use crate::handler::Handler;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// What can be taken out of a request.
///
/// It may wait: what a handler needs and what has to be asked for elsewhere, such as a session in a database, belongs here. What only
/// lets a request pass or not is for [`Router::before_async`](crate::Router::before_async), too, which can leave what it has found out
/// for an [`Extension`].
///
/// # Examples
///
/// ```
/// use annulet_http::{FromRequest, Request, Router, StatusCode, extract};
///
/// /// Who has told the secret.
/// struct Admin;
///
/// impl FromRequest for Admin {
///     type Rejection = StatusCode;
///
///     async fn from_request(request: &mut Request) -> Result<Admin, StatusCode> {
///         let is_known = request.header("authorization") == Some(b"Bearer secret");
///         if is_known { Ok(Admin) } else { Err(StatusCode::UNAUTHORIZED) }
///     }
/// }
///
/// let router = Router::new().get("/", extract(async |_: Admin| "welcome"));
/// # drop(router);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken out of a request",
    note = "what can: `Path`, `Query`, `Json`, `Form`, `State` and `Extension` of a type, `String`, `Bytes`, `HeaderMap`, and your own types by `FromRequest`"
)]
pub trait FromRequest: Sized {
    /// The answer when it cannot.
    type Rejection: IntoResponse;

    /// Takes it.
    fn from_request(request: &mut Request) -> impl Future<Output = Result<Self, Self::Rejection>>;
}

/// A handler from a function of things that can be taken out of a request: none, or up to six. What reads the content comes last.
///
/// # Examples
///
/// ```
/// use annulet_http::{Path, Router, State, extract};
///
/// async fn user(Path((group, id)): Path<(String, u32)>, names: State<Vec<&'static str>>) -> Option<String> {
///     names.get(id as usize).map(|name| format!("{name} of {group}"))
/// }
///
/// let router = Router::new().get("/{group}/{id}", extract(user)).with_state(vec!["alice", "bob"]);
/// ```
pub fn extract<Arguments, F: Takes<Arguments>>(function: F) -> impl Handler {
    // Shared, because the future of a call may outlive the router's borrow.
    let function = Rc::new(function);
    move |request| {
        let function = function.clone();
        async move { function.run(request).await }
    }
}

/// A function whose arguments can be taken out of a request. Implemented for async functions of none, or up to six.
#[diagnostic::on_unimplemented(
    message = "`extract` cannot make a handler of `{Self}`",
    label = "one of its arguments cannot be taken out of a request, or what it returns is no answer",
    note = "it takes an async function of up to six arguments, each of a type that is `FromRequest`: `Path`, `Query`, `Json`, `Form`, `State`, `Extension`, `String`, `Bytes`, `HeaderMap` or your own",
    note = "what is inside `Path`, `Query`, `Json` and `Form` is `serde::Deserialize`",
    note = "what the function returns is `IntoResponse`, and what is inside a returned `Json` is `serde::Serialize`",
    note = "a function of the whole `Request` needs no `extract`"
)]
pub trait Takes<Arguments>: 'static {
    /// Takes the arguments and calls the function.
    fn run(&self, request: Request) -> impl Future<Output = Response>;
}

macro_rules! takes {
    ($($argument:ident)*) => {
        impl<F, Fut, $($argument),*> Takes<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + 'static,
            Fut: Future<Output: IntoResponse>,
            $($argument: FromRequest,)*
        {
            #[allow(non_snake_case)]
            async fn run(&self, mut request: Request) -> Response {
                $(let $argument = match $argument::from_request(&mut request).await {
                    Ok(argument) => argument,
                    Err(rejection) => return rejection.into_response(),
                };)*
                // The request lives until the answer is there, as it does in a handler that takes it.
                let answer = self($($argument),*).await.into_response();
                drop(request);
                answer
            }
        }
    };
}

impl<F, Fut> Takes<()> for F
where
    F: Fn() -> Fut + 'static,
    Fut: Future<Output: IntoResponse>,
{
    async fn run(&self, request: Request) -> Response {
        let answer = self().await.into_response();
        drop(request);
        answer
    }
}

takes!(A);
takes!(A B);
takes!(A B C);
takes!(A B C D);
takes!(A B C D E);
takes!(A B C D E G);

/// The parameters of the path, by serde: a struct or a map takes them by their names, a tuple or a list in their order, and anything else
/// is the value of the only one. A value is a number, a `bool`, a `char`, text, the name of an enum's variant, or a type of yours that
/// serde makes of one of them. An `Option` is `None` where the route has no parameters.
///
/// What does not fit is answered 404 with the parameter's name: there is no such thing. 500 and a line on stderr where the route has not the
/// parameters that are asked for, those of a nest among them: a mistake of the program.
///
/// # Examples
///
/// ```
/// use annulet_http::{Path, Router, extract};
///
/// #[derive(serde::Deserialize)]
/// struct User {
///     group: String,
///     id: u32,
/// }
///
/// let router = Router::new()
///     .get("/users/{group}/{id}", extract(async |Path(user): Path<User>| format!("{} {}", user.group, user.id)))
///     .get("/pages/{number}", extract(async |Path(number): Path<u32>| number.to_string()));
/// # drop(router);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: serde::de::DeserializeOwned> FromRequest for Path<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Path<T>, Rejection> {
        named::of_params(request).map(Path).map_err(|misfit| {
            if let Misfit::Count(why) = misfit {
                let (path, count, of) =
                    (request.path(), request.params().count(), std::any::type_name::<T>());
                let s = if count == 1 { "" } else { "s" };
                eprintln!(
                    "annulet-http: the route of {path} has {count} parameter{s}, not those of Path<{of}>: {why}"
                );
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Rejection { status, why: "Internal Server Error".to_owned() };
            }
            Rejection { status: StatusCode::NOT_FOUND, ..Rejection::bad("the path does not fit", &misfit) }
        })
    }
}

/// The value of that type which [`Router::with_state`](crate::Router::with_state) gave to the route. 500 if there is none, and a line
/// on stderr: a mistake of the program.
#[derive(Debug)]
pub struct State<T>(pub Rc<T>);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: 'static> FromRequest for State<T> {
    type Rejection = StatusCode;

    async fn from_request(request: &mut Request) -> Result<State<T>, StatusCode> {
        request.around().and_then(|around| around.state_rc()).map(State).ok_or_else(|| {
            let of = std::any::type_name::<T>();
            eprintln!(
                "annulet-http: {} has no state of type {of}: call Router::with_state after its route",
                request.path()
            );
            StatusCode::INTERNAL_SERVER_ERROR
        })
    }
}

/// The value of that type which was left with the request ([`Request::set_extension`]). 500 if there is none, and a line on stderr: a
/// mistake of the program.
#[derive(Debug)]
pub struct Extension<T>(pub Rc<T>);

impl<T> Deref for Extension<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: 'static> FromRequest for Extension<T> {
    type Rejection = StatusCode;

    async fn from_request(request: &mut Request) -> Result<Extension<T>, StatusCode> {
        request.extension_rc().map(Extension).ok_or_else(|| {
            let of = std::any::type_name::<T>();
            eprintln!(
                "annulet-http: {} has no extension of type {of}: call Request::set_extension before its handler",
                request.path()
            );
            StatusCode::INTERNAL_SERVER_ERROR
        })
    }
}

/// The whole content, up to the limit of the server or the route.
impl FromRequest for Bytes {
    type Rejection = Error;

    async fn from_request(request: &mut Request) -> Result<Bytes, Error> {
        request.bytes(usize::MAX).await
    }
}

/// The whole content as UTF-8; 400 if it is not.
impl FromRequest for String {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<String, Rejection> {
        let bytes = request.bytes(usize::MAX).await?;
        String::from_utf8(bytes.into()).map_err(|error| Rejection::bad("the content is no text", &error))
    }
}

/// All header fields.
impl FromRequest for HeaderMap {
    type Rejection = Infallible;

    async fn from_request(request: &mut Request) -> Result<HeaderMap, Infallible> {
        let parse = |(name, value): (&str, &[u8])| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        let mut fields = HeaderMap::new();
        for (name, value) in request.headers().filter_map(parse) {
            fields.append(name, value);
        }
        Ok(fields)
    }
}

/// Never there: what cannot fail has no answer for it.
impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

/// Why something could not be taken out of a request: a status and a sentence for whoever sent it.
#[derive(Debug)]
pub struct Rejection {
    status: StatusCode,
    why: String,
}

impl Rejection {
    /// 400, with what of the request is wrong, and why.
    fn bad(what: &str, why: &dyn fmt::Display) -> Rejection {
        Rejection {
            status: StatusCode::BAD_REQUEST,
            why: format!("{what}: {}", in_one_line(&why.to_string())),
        }
    }

    /// The status code of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Rejection {}

impl From<Error> for Rejection {
    fn from(error: Error) -> Rejection {
        Rejection { status: error.status(), why: error.to_string() }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Response::text(self.why).with_status(self.status)
    }
}

/// The query, by serde: `?a=1&b=c` into a struct with these fields. 400 if it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: serde::de::DeserializeOwned> FromRequest for Query<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Query<T>, Rejection> {
        let query = request.query().unwrap_or_default();
        named::of_form(query.as_bytes())
            .map(Query)
            .map_err(|error| Rejection::bad("the query does not fit", &error))
    }
}

/// A form that was sent as content, by serde. 415 if it is not `application/x-www-form-urlencoded`, 400 if it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<T: serde::de::DeserializeOwned> FromRequest for Form<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Form<T>, Rejection> {
        check_type(request, "application/x-www-form-urlencoded")?;
        let bytes = request.bytes(usize::MAX).await?;
        named::of_form(&bytes).map(Form).map_err(|error| Rejection::bad("the form does not fit", &error))
    }
}

/// JSON by serde: content that was sent (415 if it does not call itself JSON, 400 if it does not fit), or an answer.
///
/// # Examples
///
/// ```
/// use annulet_http::{Json, Router, extract};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// async fn mirror(Json(point): Json<Point>) -> Json<Point> {
///     Json(Point { x: point.y, y: point.x })
/// }
///
/// let router = Router::new().post("/mirror", extract(mirror));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: serde::de::DeserializeOwned> FromRequest for Json<T> {
    type Rejection = Rejection;

    async fn from_request(request: &mut Request) -> Result<Json<T>, Rejection> {
        check_type(request, "application/json")?;
        let bytes = request.bytes(usize::MAX).await?;
        serde_json::from_slice(&bytes)
            .map(Json)
            .map_err(|error| Rejection::bad("the JSON does not fit", &error))
    }
}

/// 500 if it cannot be serialised: a mistake of the program.
impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(json) => json
                .into_response()
                .with_header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            Err(error) => {
                eprintln!("annulet-http: an answer cannot be written as JSON: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// More of a reason is a value that nobody reads. In characters, arbitrary.
const WHY_CHARS_MAX: usize = 200;

/// What the client has sent may be in it: nothing that a terminal or a log would obey, and not much.
fn in_one_line(why: &str) -> String {
    let mut line = String::new();
    for (count, c) in why.chars().enumerate() {
        match c {
            _ if count == WHY_CHARS_MAX => {
                line += " \u{2026}";
                break;
            }
            '"' | '\'' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    line
}

/// RFC 9110 section 15.5.16. Parameters of the type do not count; `+json` counts as JSON (RFC 6839).
fn check_type(request: &Request, wanted: &str) -> Result<(), Rejection> {
    let sent = request.header("content-type").and_then(|sent| str::from_utf8(sent).ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    let is_json = wanted == "application/json" && essence.to_ascii_lowercase().ends_with("+json");
    if essence.eq_ignore_ascii_case(wanted) || is_json {
        return Ok(());
    }
    Err(Rejection {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        why: format!("the content must be {wanted}"),
    })
}
