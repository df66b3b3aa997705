//! A strict and fast HTTP/1.1 server on annulet, and a client as strict.
//!
//! Handlers are async functions from a [`Request`] to something that [becomes](IntoResponse) a [`Response`]; a [`Router`] maps
//! paths and methods to them. [`Server`] serves a router on a core, within [`Limits`] that are on by default, and ends in good order
//! by its [`Drain`]. [`Client`] is the other side. Underneath, [`h1`] is the protocol without I/O.
//!
//! # Examples
//!
//! ```
//! use annulet::net::TcpListener;
//! use annulet_http::{Json, Path, Router, Server, StatusCode, extract};
//!
//! async fn greet(Path(name): Path<String>) -> String {
//!     format!("hello, {name}")
//! }
//!
//! async fn sum(Json(numbers): Json<Vec<i64>>) -> Result<String, StatusCode> {
//!     let sum = numbers.iter().try_fold(0, |sum: i64, number| sum.checked_add(*number));
//!     sum.map(|sum| sum.to_string()).ok_or(StatusCode::UNPROCESSABLE_ENTITY)
//! }
//!
//! annulet::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
//!     let site = format!("http://{}", listener.local_addr().unwrap());
//!     let router = Router::new().get("/hello/{name}", extract(greet)).post("/sum", extract(sum));
//!     let server = Server::new(router);
//!     let drain = server.drain_handle();
//!     let serving = annulet::spawn(async move { server.serve(listener).await });
//!
//!     let text = annulet_http::get(format!("{site}/hello/Ann")).await.unwrap().text().await.unwrap();
//!     assert_eq!(text, "hello, Ann");
//!     let client = annulet_http::Client::new();
//!     let answer = client.post(format!("{site}/sum")).json(&[1, 2, 3]).send().await.unwrap();
//!     assert_eq!(answer.text().await.unwrap(), "6");
//!
//!     drain.start();
//!     serving.await.unwrap().unwrap();
//! });
//! ```
#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
mod around;
mod body;
pub mod client;
mod cookie;
mod date;
mod error;
mod events;
mod extract;
mod files;
pub mod h1;
mod handler;
pub mod offline;
mod proxy;
mod recycle;
mod request;
mod response;
mod router;
mod server;
mod service;
mod socket;
mod stream;
#[cfg(feature = "tower")]
mod tower;
mod trace;
mod transport;
mod upgrade;

#[cfg(feature = "tls")]
pub use annulet_tls as tls;

pub use access_log::{AccessLog, LogFormat};
pub use body::Chunk;
pub use client::{Client, get};
pub use cookie::Cookie;
pub use date::DateCache;
pub use error::Error;
pub use events::Event;
pub use extract::{Extension, Form, FromRequest, Json, Path, Query, Rejection, State, Takes, extract};
pub use files::ServeDir;
pub use h1::outgoing::Trailers;
pub use h1::{Limits, Refusal};
pub use handler::Handler;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use proxy::{ForwardingField, Network};
pub use request::{Chunks, Request};
pub use response::{Escape, IntoResponse, Page, Response, escape};
pub use router::Router;
pub use server::{Drain, Server, serve};
pub use socket::Socket;
pub use stream::Data;
#[cfg(feature = "tower")]
pub use tower::{AnswerBody, RouterService};
pub use upgrade::Upgraded;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The programs in the guide compile and run; they need all three packages, which is why this stands here.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../../docs/asyncio.md")]
mod guide {}
