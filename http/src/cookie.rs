//! Cookies that an answer sets (RFC 6265 section 4.1).
use std::time::Duration;

use http::{HeaderValue, header};

use crate::response::Response;

/// A cookie to set. By default it is for the whole site, out of reach of scripts, and sent with links from elsewhere only
/// (`Path=/; HttpOnly; SameSite=Lax`).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use annulet_http::{Cookie, Response};
///
/// let cookie = Cookie::new("session", "abc").with_max_age(Duration::from_secs(3600)).with_secure();
/// let answer = Response::text("hello").with_cookie(&cookie);
/// assert_eq!(cookie.to_string(), "session=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    pair: String,
    path: String,
    is_for_scripts: bool,
    same_site: &'static str,
    rest: String,
}

impl Cookie {
    /// A cookie with this name and value.
    ///
    /// # Panics
    ///
    /// When the name is no token, or the value holds what no cookie may: control characters, spaces, `"`, `,`, `;`, `\`, or anything
    /// beyond ASCII. Percent-encode or base64 such values.
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, value: &str) -> Cookie {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        assert!(!name.is_empty() && name.bytes().all(is_token), "no name for a cookie: {name:?}");
        let is_octet = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
        assert!(value.bytes().all(is_octet), "no value for a cookie; percent-encode it: {value:?}");
        Cookie {
            pair: format!("{name}={value}"),
            path: "/".to_owned(),
            is_for_scripts: false,
            same_site: "Lax",
            rest: String::new(),
        }
    }

    /// A cookie that takes this one away.
    #[must_use]
    pub fn removal(name: &str) -> Cookie {
        Cookie::new(name, "").with_max_age(Duration::ZERO)
    }

    /// For this path and below.
    ///
    /// # Panics
    ///
    /// When it holds a `;` or is not visible ASCII.
    #[must_use]
    pub fn with_path(mut self, path: &str) -> Cookie {
        assert!(path.bytes().all(|b| b.is_ascii_graphic() && b != b';'), "no path for a cookie: {path:?}");
        path.clone_into(&mut self.path);
        self
    }

    /// For so long, in whole seconds; without it, until the browser ends.
    #[must_use]
    pub fn with_max_age(mut self, age: Duration) -> Cookie {
        self.rest += &format!("; Max-Age={}", age.as_secs());
        self
    }

    /// Over TLS only.
    #[must_use]
    pub fn with_secure(mut self) -> Cookie {
        self.rest += "; Secure";
        self
    }

    /// Within reach of scripts.
    #[must_use]
    pub fn for_scripts(mut self) -> Cookie {
        self.is_for_scripts = true;
        self
    }

    /// Never sent with anything that comes from another site.
    #[must_use]
    pub fn strict(mut self) -> Cookie {
        self.same_site = "Strict";
        self
    }
}

impl std::fmt::Display for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let http_only = if self.is_for_scripts { "" } else { "; HttpOnly" };
        write!(f, "{}; Path={}{http_only}; SameSite={}{}", self.pair, self.path, self.same_site, self.rest)
    }
}

impl Response {
    /// With a cookie.
    #[must_use]
    pub fn with_cookie(self, cookie: &Cookie) -> Response {
        let value = HeaderValue::try_from(cookie.to_string()).expect("its parts are visible ASCII");
        self.with_header(header::SET_COOKIE, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_sent() {
        let check = |cookie: &Cookie, expected: &str| {
            assert_eq!(cookie.to_string(), expected);
            let answer = Response::text("").with_cookie(cookie);
            assert_eq!(answer.headers(), [(header::SET_COOKIE, expected.parse().unwrap())]);
        };
        check(&Cookie::new("a", "b"), "a=b; Path=/; HttpOnly; SameSite=Lax");
        check(&Cookie::removal("a").with_path("/x"), "a=; Path=/x; HttpOnly; SameSite=Lax; Max-Age=0");
        check(&Cookie::new("a", "").strict().for_scripts(), "a=; Path=/; SameSite=Strict");
    }

    #[test]
    fn mistakes_of_the_program() {
        let check = |build: fn() -> Cookie| assert!(std::panic::catch_unwind(build).is_err());
        check(|| Cookie::new("", "b"));
        check(|| Cookie::new("a b", "b"));
        check(|| Cookie::new("a", "b; Path=/"));
        check(|| Cookie::new("a", "b\r\nX: y"));
        check(|| Cookie::new("a", "b").with_path("/;"));
    }
}
