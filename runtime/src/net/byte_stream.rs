//! What TCP and Unix streams have in common, written once for both public types.
//!
//! The work is done by [`Stream`](super::stream::Stream); this is its public face.

/// Gives `$name(Stream)` the methods of a byte stream. `$name` is what an example calls it.
macro_rules! byte_stream {
    ($name:ident) => {
        impl $name {
            /// The next received bytes, where the kernel put them; `None` at the end of the stream.
            ///
            /// # Errors
            ///
            /// What recv(2) says; `TimedOut` after [`set_recv_deadline`](Self::set_recv_deadline).
            ///
            /// # Cancel safety
            ///
            /// A dropped wait loses no byte.
            #[inline]
            pub fn recv(&self) -> impl Future<Output = io::Result<Option<Lease>>> + '_ {
                self.0.recv()
            }

            /// The polling form of [`recv`](Self::recv). Only the task that polled last is woken.
            #[inline]
            pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
                self.0.poll_recv(cx)
            }

            /// Bytes that have been received already, without waiting.
            #[inline]
            pub fn try_recv(&self) -> Option<Lease> {
                self.0.try_recv()
            }

            /// Asks the kernel for bytes before anybody waits for them, so that they are there when they are.
            pub fn start_recv(&self) {
                self.0.start_recv();
            }

            /// Says that about so many bytes will come: the length that a header announced, for example. A hint, never needed, that
            /// what was not received yet may come in larger pieces: if it is much, leases are of up to 64 KiB from here on, and of
            /// 4 KiB again when little of it is left. Told anew, the last word counts.
            ///
            /// No buffer is held while nothing arrives, and a reader that stops to read holds back as much as without the hint.
            pub fn expect_recv(&self, bytes: u64) {
                self.0.expect_recv(bytes);
            }

            /// Reads into `buffer`; 0 at the end of the stream (or for an empty buffer).
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            ///
            /// # Cancel safety
            ///
            /// A dropped wait loses no byte.
            pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer).await
            }

            /// The polling form of [`read`](Self::read).
            pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
                self.0.poll_read(cx, buffer)
            }

            /// Gives the next received bytes, at most `count_max`, to `take`, where the kernel put them; the others stay for the
            /// next call. The count is 0 at the end of the stream (or for a `count_max` of 0). For readers into memory that need not
            /// be initialised.
            #[inline]
            pub fn poll_read_with(
                &self,
                cx: &mut Context<'_>,
                count_max: usize,
                take: impl FnOnce(&[u8]),
            ) -> Poll<io::Result<usize>> {
                self.0.poll_read_with(cx, count_max, take)
            }

            /// Fills `buffer`.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv); `UnexpectedEof` when the stream ends first.
            ///
            /// # Cancel safety
            ///
            /// None: bytes that were copied into `buffer` before the drop are known to its owner only.
            pub async fn read_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
                self.0.read_exact(buffer).await
            }

            /// Appends to the send buffer with `f`; what it appends leaves in one send at the end of the loop's turn.
            ///
            /// There is no bound here: ask [`write_ready`](Self::write_ready) before much is appended. After an error that ended
            /// sending, appended bytes are dropped; [`flush`](Self::flush) tells the error.
            #[inline]
            pub fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
                self.0.with_send_buffer(f)
            }

            /// Bytes that were written and not yet taken by the kernel.
            #[inline]
            pub fn send_buffered(&self) -> usize {
                self.0.send_buffered()
            }

            /// Waits until fewer than 64 KiB of written bytes wait for the kernel.
            ///
            /// # Errors
            ///
            /// The error that ended sending.
            ///
            /// # Cancel safety
            ///
            /// Safe.
            pub async fn write_ready(&self) -> io::Result<()> {
                self.0.write_ready().await
            }

            /// The polling form of [`write_ready`](Self::write_ready). Only the task that polled last is woken.
            pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.poll_write_ready(cx)
            }

            /// Waits until the kernel has taken every written byte.
            ///
            /// # Errors
            ///
            /// The error that ended sending.
            ///
            /// # Cancel safety
            ///
            /// Safe.
            pub async fn flush(&self) -> io::Result<()> {
                self.0.flush().await
            }

            /// The polling form of [`flush`](Self::flush). Only the task that polled last is woken.
            pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.poll_flush(cx)
            }

            /// Writes some of `bytes`: as much as fits below the high-water mark of 64 KiB. Gives the count.
            ///
            /// # Errors
            ///
            /// The error that ended sending.
            ///
            /// # Cancel safety
            ///
            /// A dropped wait has written nothing.
            pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes).await
            }

            /// The polling form of [`write`](Self::write).
            pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, bytes)
            }

            /// Writes all of `bytes`. They are copied, so the slice is free when this returns; the kernel has them after
            /// [`flush`](Self::flush).
            ///
            /// # Errors
            ///
            /// The error that ended sending.
            ///
            /// # Cancel safety
            ///
            /// None: how many bytes were written before the drop is not told.
            pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
                self.0.write_all(bytes).await
            }

            /// Sends `bytes` without a copy and gives the vector back, also after an error. What was written before leaves first.
            ///
            /// # Errors
            ///
            /// What send(2) says; `ResourceBusy` while another `send` of this stream is under way.
            ///
            /// # Cancel safety
            ///
            /// Sound, but whether the bytes leave is not told: before they are handed to the kernel they do not, after it they do.
            pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
                self.0.send(bytes).await
            }

            /// Lets `bytes` leave without a copy, behind what was written before and before what is written from here on. One value
            /// at a time: gives them back while others have not left ([`flush`](Self::flush) waits for that), and inside of
            /// [`with_send_buffer`](Self::with_send_buffer). After an error that
            /// ended sending they are dropped, as written bytes are.
            ///
            /// They count as written: for [`send_buffered`](Self::send_buffered), and for those who wait for room or for the flush.
            /// They leave also when the stream is dropped. Worth it for some 16 KiB and more.
            pub fn try_send_bytes(&self, bytes: bytes::Bytes) -> Result<(), bytes::Bytes> {
                self.0.try_send_bytes(bytes, false)
            }

            /// From `deadline` on, waiting for bytes fails with `TimedOut`, until another deadline is set; `None` for never.
            /// A store: cheap enough for every request.
            #[inline]
            pub fn set_recv_deadline(&self, deadline: Option<Instant>) {
                self.0.set_recv_deadline(deadline);
            }

            /// Shuts one or both directions down. Writing ends after what was written has left; await [`flush`](Self::flush)
            /// first, bytes that wait in the send buffer are lost otherwise.
            ///
            /// # Errors
            ///
            /// What shutdown(2) says.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.0.shutdown(how)
            }

            /// Ends the connection in order: what was written leaves (`linger` is the limit for that too), a FIN follows, then
            /// what the peer still sends is read and thrown away for at most `linger` (and 1 MiB), so that the kernel does not reset the connection before the peer
            /// has read the last answer (RFC 9112 section 9.6).
            ///
            /// # Errors
            ///
            /// The error that ended sending; `TimedOut` when the peer does not take the last bytes. A peer that goes on sending is
            /// cut off without an error.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future closes the connection without the rest of the protocol.
            pub async fn close(self, linger: Duration) -> io::Result<()> {
                self.0.close(linger).await
            }

            /// A reading and a writing half that borrow this stream.
            pub fn split(&mut self) -> (ReadHalf<'_, $name>, WriteHalf<'_, $name>) {
                $crate::net::split::halves(self)
            }

            /// A reading and a writing half that own this stream together; it closes when both are dropped.
            pub fn into_split(self) -> (OwnedReadHalf<$name>, OwnedWriteHalf<$name>) {
                $crate::net::split::owned_halves(self)
            }
        }

        impl $crate::net::split::ByteStream for $name {
            fn stream(&self) -> &Stream {
                &self.0
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("fd", &self.as_raw_fd()).finish()
            }
        }
    };
}

pub(super) use byte_stream;
