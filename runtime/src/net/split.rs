//! The two directions of a stream as two values.

use std::io;
use std::rc::Rc;

use super::TcpStream;
use super::stream::Stream;
use crate::op::Lease;

/// A public stream type; sealed, because it cannot be named outside.
pub trait ByteStream {
    /// What does its work.
    fn stream(&self) -> &Stream;
}

/// The reading half of a borrowed stream; see [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a, S = TcpStream>(&'a S);

/// The writing half of a borrowed stream; see [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a, S = TcpStream>(&'a S);

/// The reading half of an owned stream; see [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream>(Rc<S>);

/// The writing half of an owned stream; see [`TcpStream::into_split`]. Dropping it while the reading half lives sends no
/// end of the stream; call [`shutdown`](Self::shutdown) for that.
#[derive(Debug)]
pub struct OwnedWriteHalf<S = TcpStream>(Rc<S>);

pub(super) fn halves<S>(stream: &S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf(stream), WriteHalf(stream))
}

pub(super) fn owned_halves<S>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Rc::new(stream);
    (OwnedReadHalf(Rc::clone(&stream)), OwnedWriteHalf(stream))
}

macro_rules! reading {
    ($half:ty) => {
        impl<S: ByteStream> $half {
            /// See [`TcpStream::recv`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn recv(&mut self) -> io::Result<Option<Lease>> {
                self.0.stream().recv().await
            }

            /// See [`TcpStream::read`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.stream().read(buffer).await
            }

            /// See [`TcpStream::read_exact`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
                self.0.stream().read_exact(buffer).await
            }
        }

        impl<S> AsRef<S> for $half {
            fn as_ref(&self) -> &S {
                &self.0
            }
        }
    };
}

macro_rules! writing {
    ($half:ty) => {
        impl<S: ByteStream> $half {
            /// See [`TcpStream::write`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.stream().write(bytes).await
            }

            /// See [`TcpStream::write_all`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.0.stream().write_all(bytes).await
            }

            /// See [`TcpStream::send`].
            pub async fn send(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
                self.0.stream().send(bytes).await
            }

            /// See [`TcpStream::flush`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn flush(&mut self) -> io::Result<()> {
                self.0.stream().flush().await
            }

            /// Flushes and sends the end of the stream (a FIN).
            ///
            /// # Errors
            ///
            /// The error that ended sending, or what shutdown(2) says.
            pub async fn shutdown(&mut self) -> io::Result<()> {
                self.0.stream().flush().await?;
                self.0.stream().shutdown(std::net::Shutdown::Write)
            }
        }

        impl<S> AsRef<S> for $half {
            fn as_ref(&self) -> &S {
                &self.0
            }
        }
    };
}

reading!(ReadHalf<'_, S>);
reading!(OwnedReadHalf<S>);
writing!(WriteHalf<'_, S>);
writing!(OwnedWriteHalf<S>);
