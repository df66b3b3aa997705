//! The command line, by hand: six flags need no library.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
annulet-floor: a raw io_uring server that answers every \\r\\n\\r\\n with one constant response

  --listen ADDR        where to listen                            [127.0.0.1:8001]
  --core N             pin to this core                           [not pinned]
  --send plain|skip    plain: every send posts a completion
                       skip: sends never wait and post a completion only when they fail or fall short  [plain]
  --spin-us N          look for work this long before sleeping    [0]
  --min-wait-us N      with --min-wait-count: collect completions for at most this long  [0]
  --min-wait-count N   how many completions end the collecting    [1]
";

/// How sends are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// One completion for each.
    Plain,
    /// Never waits, and completes in silence when all went out.
    Skip,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) core: Option<usize>,
    pub(crate) send: SendMode,
    pub(crate) spin: Duration,
    pub(crate) min_wait_us: u32,
    pub(crate) min_wait_count: u32,
}

impl Options {
    /// Reads the flags. `None` when help is asked for.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            core: None,
            send: SendMode::Plain,
            spin: Duration::ZERO,
            min_wait_us: 0,
            min_wait_count: 1,
        };
        while let Some(flag) = arguments.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value, or is no flag"))?;
            match flag.as_str() {
                "--listen" => options.listen = number(&flag, &value)?,
                "--core" => options.core = Some(number(&flag, &value)?),
                "--send" => {
                    options.send = match value.as_str() {
                        "plain" => SendMode::Plain,
                        "skip" => SendMode::Skip,
                        _ => return Err(format!("--send is plain or skip, not {value}")),
                    }
                }
                "--spin-us" => options.spin = Duration::from_micros(number(&flag, &value)?),
                "--min-wait-us" => options.min_wait_us = number(&flag, &value)?,
                "--min-wait-count" => options.min_wait_count = number::<u32>(&flag, &value)?.max(1),
                _ => return Err(format!("unknown flag {flag}; see --help")),
            }
        }
        Ok(Some(options))
    }
}

fn number<T: FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} cannot be {value}"))
}
