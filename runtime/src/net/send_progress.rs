//! How far a peer has come with what was sent to it, as the kernel counts it.

use std::io;
use std::time::Duration;

use super::stream::Stream;

/// From [`TcpStream::send_progress`](super::TcpStream::send_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendProgress {
    /// Bytes that the peer's kernel has acknowledged, ever (`tcpi_bytes_acked` of TCP_INFO, tcp(7)); the SYN and the FIN may be among
    /// them.
    pub acknowledged: u64,
    /// Whether something waits in this kernel to be acknowledged.
    pub waits: bool,
    /// How long nothing has been taken by the peer, if something waits: the time since it had room for more, or since it was
    /// heard of at all, whichever is longer. By the machine's clock, in steps of some milliseconds.
    pub idle: Duration,
    /// Bytes that the peer has announced room for (SND.WND of RFC 9293, `tcpi_snd_wnd`) beyond what is under way. 0 while something waits
    /// here that has not been sent.
    pub room: u32,
}

/// Where they stand in `struct tcp_info` of linux/tcp.h, in words of 32 bits.
mod place {
    pub(super) const UNACKED: usize = 24 / 4;
    pub(super) const LAST_DATA_SENT: usize = 44 / 4;
    pub(super) const LAST_ACK_RECV: usize = 56 / 4;
    pub(super) const BYTES_ACKED: usize = 120 / 4;
    pub(super) const NOTSENT_BYTES: usize = 144 / 4;
    pub(super) const BYTES_SENT: usize = 200 / 4;
    pub(super) const BYTES_RETRANS: usize = 208 / 4;
    /// Since Linux 5.4.
    pub(super) const SND_WND: usize = 228 / 4;
    pub(super) const END: usize = SND_WND + 1;
}

impl SendProgress {
    pub(super) fn of(stream: &Stream) -> io::Result<SendProgress> {
        Ok(SendProgress::parse(&stream.tcp_info()?))
    }

    fn parse(info: &[u32; place::END]) -> SendProgress {
        let heard_ms = info[place::LAST_ACK_RECV];
        let idle_ms = match info[place::NOTSENT_BYTES] {
            // All of it is under way: who takes it says so.
            0 => heard_ms,
            // Data leave as soon as the peer has room for them, so this is since when it has had none. Who is gone without a word is
            // sent the same again and again, but is not heard of any more.
            _ => heard_ms.max(info[place::LAST_DATA_SENT]),
        };
        let [sent, sent_again, acknowledged] =
            [place::BYTES_SENT, place::BYTES_RETRANS, place::BYTES_ACKED].map(|place| long(info, place));
        // A SYN is acknowledged that was not counted as sent.
        let under_way = sent.saturating_sub(sent_again.saturating_add(acknowledged));
        SendProgress {
            waits: info[place::UNACKED] > 0 || info[place::NOTSENT_BYTES] > 0,
            acknowledged,
            idle: Duration::from_millis(idle_ms.into()),
            room: match info[place::NOTSENT_BYTES] {
                0 => info[place::SND_WND].saturating_sub(under_way.try_into().unwrap_or(u32::MAX)),
                _ => 0,
            },
        }
    }
}

/// A field of two words.
fn long(info: &[u32; place::END], at: usize) -> u64 {
    let [first, second] = [info[at], info[at + 1]].map(u64::from);
    if cfg!(target_endian = "little") { first | second << 32 } else { second | first << 32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_room_and_who_is_not_heard_of_takes_nothing() {
        let check = |unsent, sent_ms, heard_ms, idle_ms| {
            let mut info = [0; place::END];
            info[place::NOTSENT_BYTES] = unsent;
            info[place::LAST_DATA_SENT] = sent_ms;
            info[place::LAST_ACK_RECV] = heard_ms;
            let progress = SendProgress::parse(&info);
            assert_eq!(progress.idle, Duration::from_millis(idle_ms), "{unsent} {sent_ms} {heard_ms}");
        };
        // Its window is closed, and probes are answered.
        check(1, 5000, 10, 5000);
        // Sent again and again, to nobody.
        check(1, 10, 5000, 5000);
        check(0, 10, 5000, 5000);
        // All is under way, and it answers.
        check(0, 5000, 10, 10);
    }

    #[test]
    fn what_is_under_way_and_what_has_not_left_waits() {
        let check = |unacked, unsent, waits| {
            let mut info = [0; place::END];
            (info[place::UNACKED], info[place::NOTSENT_BYTES]) = (unacked, unsent);
            assert_eq!(SendProgress::parse(&info).waits, waits, "{unacked} {unsent}");
        };
        check(0, 0, false);
        check(1, 0, true);
        check(0, 1, true);
    }

    #[test]
    fn room_is_what_nothing_is_under_way_to() {
        let check = |window, sent: u64, sent_again: u64, acknowledged: u64, unsent, room| {
            let mut info = [0; place::END];
            let mut put = |place: usize, value: u64| {
                for (word, bytes) in info[place..].iter_mut().zip(value.to_ne_bytes().chunks(4)) {
                    *word = u32::from_ne_bytes(bytes.try_into().unwrap());
                }
            };
            put(place::BYTES_SENT, sent);
            put(place::BYTES_RETRANS, sent_again);
            put(place::BYTES_ACKED, acknowledged);
            (info[place::SND_WND], info[place::NOTSENT_BYTES]) = (window, unsent);
            assert_eq!(SendProgress::parse(&info).room, room, "{window} {sent} {acknowledged} {unsent}");
        };
        check(1200, 0, 0, 0, 0, 1200);
        check(1200, 251, 0, 0, 0, 949);
        check(1200, 251 + 300, 300, 0, 0, 949);
        check(1200, 251, 0, 251, 0, 1200);
        check(1200, 1200, 0, 0, 0, 0);
        // Its window has become smaller.
        check(100, 1200, 0, 0, 0, 0);
        check(0, 0, 0, 0, 0, 0);
        check(1200, 0, 0, 0, 1, 0);
        // The SYN of a client.
        check(1200, 0, 0, 1, 0, 1200);
        check(1200, u64::MAX, 0, u64::MAX - 200, 0, 1000);
        check(u32::MAX, u64::MAX, 0, 0, 0, 0);
    }

    #[test]
    fn acknowledged_bytes_are_64_bits_wide() {
        let mut info = [0; place::END];
        let bytes = 0x0000_0007_0000_0009_u64.to_ne_bytes();
        for (word, bytes) in info[place::BYTES_ACKED..].iter_mut().zip(bytes.chunks(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        assert_eq!(SendProgress::parse(&info).acknowledged, 0x0000_0007_0000_0009);
    }
}
