//! TLS from outside, on the real ring.

mod certificates;
mod dropped;
mod echo;
mod end;
mod example;
mod openssl;
mod refused;
mod resumption;
mod support;
