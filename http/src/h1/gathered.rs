//! The fields that decide about framing and persistence, gathered while they pass.
use super::span::Field;
use super::syntax;

/// What the fields said, gathered while they pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) host: Field,
    pub(super) hosts: u8,
    /// `host` needs no check.
    pub(super) host_is_known: bool,
    /// A Content-Length or a Transfer-Encoding was seen.
    pub(super) is_framed: bool,
    pub(super) says_close: bool,
    pub(super) says_keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) expects_unknown: bool,
}

impl Gathered {
    /// Takes a Host line whose value is the one that passed before.
    #[inline(always)]
    pub(super) fn take_known_host(&mut self, field: Field) {
        self.host = field;
        self.host_is_known = true;
        self.hosts = self.hosts.saturating_add(1);
    }

    /// The length alone rules out most names before a byte is compared.
    #[inline(always)]
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], field: Field) {
        match name.len() {
            4 if is_host_name(name) => {
                self.host = field;
                self.host_is_known = false;
                self.hosts = self.hosts.saturating_add(1);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.take_expect(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.is_framed = true,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.is_framed = true,
            _ => {}
        }
    }

    /// RFC 9112 section 9.3. Options other than these two are for proxies.
    fn take_connection(&mut self, value: &[u8]) {
        for option in syntax::list_members(value) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    #[cold]
    fn take_expect(&mut self, value: &[u8]) {
        for expectation in syntax::list_members(value) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_unknown = true;
            }
        }
    }
}

/// `host` in any case of letters, as one word: every request has it.
#[inline(always)]
fn is_host_name(name: &[u8]) -> bool {
    // Setting the case bit makes two letters equal and maps nothing else to a letter of this word.
    const CASE: u32 = 0x2020_2020;
    name.first_chunk::<4>()
        .is_some_and(|word| u32::from_le_bytes(*word) | CASE == u32::from_le_bytes(*b"host"))
}
