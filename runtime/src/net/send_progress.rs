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
    /// Bytes that the peer has announced room for (SND.WND of RFC 9293, `tcpi_snd_wnd`) beyond what is under way, or a little less: each
    /// segment counts as a full one. 0 while something waits here that has not been sent.
    pub room: u32,
}

/// Where they stand in `struct tcp_info` of linux/tcp.h, in words of 32 bits.
mod place {
    pub(super) const SND_MSS: usize = 16 / 4;
    pub(super) const UNACKED: usize = 24 / 4;
    pub(super) const LAST_DATA_SENT: usize = 44 / 4;
    pub(super) const LAST_ACK_RECV: usize = 56 / 4;
    pub(super) const BYTES_ACKED: usize = 120 / 4;
    pub(super) const NOTSENT_BYTES: usize = 144 / 4;
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
        let under_way = info[place::UNACKED].saturating_mul(info[place::SND_MSS]);
        let [low, high] = [info[place::BYTES_ACKED], info[place::BYTES_ACKED + 1]];
        let words = if cfg!(target_endian = "little") { [low, high] } else { [high, low] };
        SendProgress {
            waits: info[place::UNACKED] > 0 || info[place::NOTSENT_BYTES] > 0,
            acknowledged: u64::from(words[0]) | u64::from(words[1]) << 32,
            idle: Duration::from_millis(idle_ms.into()),
            room: match info[place::NOTSENT_BYTES] {
                0 => info[place::SND_WND].saturating_sub(under_way),
                _ => 0,
            },
        }
    }
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
        let check = |window, unacked, unsent, room| {
            let mut info = [0; place::END];
            (info[place::SND_WND], info[place::SND_MSS]) = (window, 500);
            (info[place::UNACKED], info[place::NOTSENT_BYTES]) = (unacked, unsent);
            assert_eq!(SendProgress::parse(&info).room, room, "{window} {unacked} {unsent}");
        };
        check(1200, 0, 0, 1200);
        check(1200, 2, 0, 200);
        check(1200, 3, 0, 0);
        check(0, 0, 0, 0);
        check(1200, 0, 1, 0);
        check(u32::MAX, u32::MAX, 0, 0);
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
