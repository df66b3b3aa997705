//! A strict and fast HTTP/1.1 server on annulet.
#![forbid(unsafe_code)]
