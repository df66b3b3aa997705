//! Requests of the cases with a few things changed: nothing panics, nothing hangs, no request gets a second answer, and what is heard
//! does not depend on how the bytes arrive.
//!
//! Each goes in pieces through the server's own pump to a handler that reads the whole body, from memory to memory; a few go over a
//! socket as well. `ANNULET_MUTATIONS` is how many there are without a socket (a million by default), `ANNULET_MUTATIONS_SERVED` how
//! many are sent to a server; `ANNULET_MUTATIONS_SEED` begins another sequence. A failure names its number, and with
//! `ANNULET_MUTATIONS_FIRST` the sequence begins there.
use annulet::net::TcpListener;
use annulet_http::Server;
use annulet_http::offline::converse as converse_offline;

use crate::model::{Conversation, End, listen};
use crate::mutate::{Random, cut, mutate};
use crate::run::{converse, text};
use crate::served::{compare, limits, router};
use crate::site::TIME_MAX;

/// Stands behind every fourth: what is taken for content must not be taken for a request.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n";

/// Longer inputs find nothing that short ones do not.
const INPUT_BYTES_MAX: usize = 2000;

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// The inputs, each from its number alone.
struct Mutations<'s> {
    seeds: &'s [Vec<u8>],
    seed: u64,
}

impl<'s> Mutations<'s> {
    fn new(seeds: &'s [Vec<u8>]) -> Mutations<'s> {
        Mutations { seeds, seed: number("ANNULET_MUTATIONS_SEED", 1) }
    }

    fn make(&self, nth: u64, input: &mut Vec<u8>) -> Random {
        let mut random = Random::new(self.seed << 40 ^ nth);
        let seeds = self.seeds;
        input.clear();
        input.extend_from_slice(&seeds[random.below(seeds.len())]);
        for _ in 0..=random.below(3) {
            mutate(input, &seeds[random.below(seeds.len())], &mut random);
        }
        input.truncate(INPUT_BYTES_MAX);
        if random.below(4) == 0 {
            input.extend_from_slice(SMUGGLED);
        }
        random
    }

    fn numbers(name: &str, default: u64) -> impl Iterator<Item = u64> {
        let first = number("ANNULET_MUTATIONS_FIRST", 0);
        first..first + number(name, default)
    }
}

/// The requests of all cases that are not long. Those that are good come more often: most changes make them bad.
pub(crate) fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for case in texts.iter().flat_map(|text| crate::table::cases(text)) {
        let is_good = case.answers.iter().all(|answer| answer.status.starts_with('2'));
        if case.request.len() <= INPUT_BYTES_MAX {
            seeds.extend(std::iter::repeat_n(case.request, if is_good { 8 } else { 1 }));
        }
    }
    seeds
}

/// Without a socket.
pub(crate) fn check_heard(seeds: &[Vec<u8>]) {
    let mutations = Mutations::new(seeds);
    annulet::run(async {
        let (limits, server) = (limits(), Server::new(router()).with_limits(limits()));
        let (mut input, mut tally) = (Vec::new(), Tally::default());
        for nth in Mutations::numbers("ANNULET_MUTATIONS", 1_000_000) {
            let mut random = mutations.make(nth, &mut input);
            let heard = listen(&limits, [&input[..]]);
            let pieces = cut(&input, &mut random);
            let in_pieces = listen(&limits, pieces.iter().copied());
            assert_eq!(in_pieces, heard, "mutation {nth}: {:?} in {} pieces", text(&input), pieces.len());
            if nth % 16 == 0 {
                let by_byte = listen(&limits, input.chunks(1));
                assert_eq!(by_byte, heard, "mutation {nth}: {:?} byte by byte", text(&input));
            }
            let Some(answers) = converse_offline(&server, &pieces) else {
                panic!("mutation {nth}: {:?} in {} pieces: it hangs", text(&input), pieces.len());
            };
            if let Err(why) = compare(&heard, &answers) {
                panic!(
                    "mutation {nth}: {:?} in {} pieces: {why}, in {:?}",
                    text(&input),
                    pieces.len(),
                    text(&answers)
                );
            }
            tally.count(&heard);
        }
        tally.check();
    });
}

/// Over a socket, in pieces.
pub(crate) fn check_served(seeds: &[Vec<u8>]) {
    let mutations = Mutations::new(seeds);
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router()).with_limits(limits());
        drop(annulet::spawn(async move { server.serve(listener).await }));
        let all = async {
            let mut input = Vec::new();
            for nth in Mutations::numbers("ANNULET_MUTATIONS_SERVED", 20_000) {
                let mut random = mutations.make(nth, &mut input);
                let heard = listen(&limits(), [&input[..]]);
                let pieces = cut(&input, &mut random);
                // Each of them takes a while.
                let pieces =
                    if pieces.len() > 8 { input.chunks(input.len().div_ceil(8)).collect() } else { pieces };
                let answers = converse(address, &pieces).await;
                if let Err(why) = compare(&heard, &answers) {
                    panic!(
                        "mutation {nth}: {:?} in {} pieces: {why}, in {:?}",
                        text(&input),
                        pieces.len(),
                        text(&answers)
                    );
                }
            }
        };
        match std::env::var_os("ANNULET_MUTATIONS_SERVED") {
            None => annulet::time::timeout(TIME_MAX, all).await.expect("the mutations take too long"),
            Some(_) => all.await,
        }
    });
}

/// What came of the mutations, so that a mutator that makes nothing but rubbish is seen.
#[derive(Debug, Default)]
struct Tally {
    conversations: u64,
    requests: u64,
    framed: u64,
    refused_heads: u64,
    refused_bodies: u64,
    cut: u64,
}

impl Tally {
    fn count(&mut self, heard: &Conversation) {
        self.conversations += 1;
        self.requests += heard.requests.len() as u64;
        self.framed += heard.requests.iter().filter(|request| request.has_content).count() as u64;
        self.refused_heads += u64::from(matches!(heard.end, End::HeadRefused(_)));
        self.refused_bodies += u64::from(matches!(heard.end, End::BodyRefused(_)));
        self.cut += u64::from(matches!(heard.end, End::InHead | End::InBody));
    }

    fn check(&self) {
        println!("{self:?}");
        let of_all = self.conversations / 100;
        let all = [self.requests, self.framed, self.refused_heads, self.refused_bodies, self.cut];
        assert!(all.iter().all(|count| *count >= of_all), "{self:?}");
    }
}
