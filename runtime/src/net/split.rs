//! The two directions of a stream as two values.

use std::io;
use std::rc::Rc;

use super::TcpStream;
use crate::op::Lease;

/// The reading half of a borrowed stream; see [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a TcpStream);

/// The writing half of a borrowed stream; see [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a TcpStream);

/// The reading half of an owned stream; see [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf(Rc<TcpStream>);

/// The writing half of an owned stream; see [`TcpStream::into_split`]. Dropping it while the reading half lives sends no
/// FIN; call [`shutdown`](Self::shutdown) for that.
#[derive(Debug)]
pub struct OwnedWriteHalf(Rc<TcpStream>);

pub(super) fn halves(stream: &TcpStream) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf(stream), WriteHalf(stream))
}

pub(super) fn owned_halves(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let stream = Rc::new(stream);
    (OwnedReadHalf(Rc::clone(&stream)), OwnedWriteHalf(stream))
}

macro_rules! reading {
    ($half:ty) => {
        impl $half {
            /// See [`TcpStream::recv`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn recv(&mut self) -> io::Result<Option<Lease>> {
                self.0.recv().await
            }

            /// See [`TcpStream::read`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer).await
            }

            /// See [`TcpStream::read_exact`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
                self.0.read_exact(buffer).await
            }
        }

        impl AsRef<TcpStream> for $half {
            fn as_ref(&self) -> &TcpStream {
                &self.0
            }
        }
    };
}

macro_rules! writing {
    ($half:ty) => {
        impl $half {
            /// See [`TcpStream::write`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes).await
            }

            /// See [`TcpStream::write_all`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.0.write_all(bytes).await
            }

            /// See [`TcpStream::send`].
            pub async fn send(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
                self.0.send(bytes).await
            }

            /// See [`TcpStream::flush`].
            ///
            /// # Errors
            ///
            /// As there.
            pub async fn flush(&mut self) -> io::Result<()> {
                self.0.flush().await
            }

            /// Flushes and sends a FIN.
            ///
            /// # Errors
            ///
            /// The error that ended sending, or what shutdown(2) says.
            pub async fn shutdown(&mut self) -> io::Result<()> {
                self.0.flush().await?;
                self.0.shutdown(std::net::Shutdown::Write)
            }
        }

        impl AsRef<TcpStream> for $half {
            fn as_ref(&self) -> &TcpStream {
                &self.0
            }
        }
    };
}

reading!(ReadHalf<'_>);
reading!(OwnedReadHalf);
writing!(WriteHalf<'_>);
writing!(OwnedWriteHalf);
