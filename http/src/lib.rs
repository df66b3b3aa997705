//! A strict and fast HTTP/1.1 server on annulet, and a client as strict.
//!
//! Handlers are async functions from a [`Request`] to something that [becomes](IntoResponse) a [`Response`]; a [`Router`] maps
//! paths and methods to them. [`Client`] is the other side. Underneath, [`h1`] is the protocol without I/O.
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
pub use extract::{
    Form, FromParam, FromParams, FromRequest, Json, Path, Query, Rejection, State, Takes, extract,
};
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
