//! A listener's connections as a stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The connections of a listener, without end; see [`TcpListener::incoming`].
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Incoming<'a, L = TcpListener>(&'a L);

macro_rules! incoming {
    ($listener:ty, $stream:ty) => {
        impl $listener {
            /// The connections as a [`Stream`], which never ends.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// # async fn serve(listener: annulet::net::TcpListener) {
            /// let mut connections = listener.incoming();
            /// while let Some(connection) = connections.next().await {
            ///     let connection = connection.unwrap();
            ///     annulet::spawn(async move { connection.write_all(b"hello").await });
            /// }
            /// # }
            /// ```
            pub fn incoming(&self) -> Incoming<'_, $listener> {
                Incoming(self)
            }
        }

        impl Incoming<'_, $listener> {
            /// The next connection; never `None`.
            ///
            /// # Cancel safety
            ///
            /// A dropped wait loses no connection.
            pub async fn next(&mut self) -> Option<io::Result<$stream>> {
                Some(poll_fn(|cx| self.0.poll_accept(cx)).await)
            }
        }

        impl Stream for Incoming<'_, $listener> {
            type Item = io::Result<$stream>;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.0.poll_accept(cx).map(Some)
            }
        }
    };
}

incoming!(TcpListener, TcpStream);
incoming!(UnixListener, UnixStream);
