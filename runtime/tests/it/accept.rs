//! How connections are spread over cores: policies, limits, and a connection that moves.

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use annulet::net::{AcceptPolicy, Connections};
use annulet::{Builder, Core, Loops, mesh, spawn};

/// How long a loop may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two cores, twice the same if there is one only.
fn two_cores() -> Vec<usize> {
    let cores = annulet::placement::available_cores().unwrap();
    vec![cores[0], cores[1 % cores.len()]]
}

/// Writes the place of its core to everybody and keeps the connection until the client is gone.
async fn serve(mut core: Core) {
    let listener = core.take_listeners().pop().unwrap();
    let serving = spawn(async move {
        while let Ok(stream) = listener.accept().await {
            spawn(async move {
                let _ = stream.write_all(&[mesh::here() as u8]).await;
                while let Ok(Some(_)) = stream.recv().await {}
            });
        }
    });
    core.stopped().await;
    serving.abort();
}

fn start(builder: Builder) -> Loops {
    builder.cores(two_cores()).listen("127.0.0.1:0".parse().unwrap()).start(serve).unwrap()
}

fn until(connections: &Connections, what: &str, is_so: impl Fn(&Connections) -> bool) {
    let start = Instant::now();
    while !is_so(connections) {
        assert!(start.elapsed() < PATIENCE, "it did not come to pass: {what}; {connections}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn clients(loops: &Loops, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(loops.addresses()[0]).unwrap()).collect()
}

fn live(connections: &Connections) -> usize {
    connections.live().iter().sum()
}

/// The core that serves a connection, as it says itself.
fn core_of(client: &Client) -> usize {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut place = [0];
    (&*client).read_exact(&mut place).unwrap();
    usize::from(place[0])
}

fn end(loops: Loops) {
    loops.stop();
    loops.join().unwrap();
}

/// 200 long connections on two cores: within 5 % of even when balanced; what the kernel's own spreading gives is printed.
#[test]
fn two_hundred_connections_are_balanced() {
    for policy in [AcceptPolicy::Reuseport, AcceptPolicy::Balance] {
        let loops = start(Builder::new().accept(policy));
        let connections = loops.connections();
        let clients = clients(&loops, 200);
        until(&connections, "all are served", |connections| live(connections) == 200);
        println!("{policy:?}: {connections}");
        let mut counts = [0; 2];
        clients.iter().for_each(|client| counts[core_of(client)] += 1);
        assert_eq!(counts.to_vec(), connections.live(), "who serves is who counts");
        if policy == AcceptPolicy::Balance {
            assert!(connections.skew() <= 0.05, "{connections}");
        } else {
            assert_eq!(connections.handed_over(), [0, 0]);
        }
        drop(clients);
        until(&connections, "all are gone", |connections| live(connections) == 0);
        end(loops);
    }
}

#[test]
fn steering_follows_the_receiving_core() {
    let cores = two_cores();
    if cores[0] == cores[1] {
        println!("steering_follows_the_receiving_core: skipped, there is one core only");
        return;
    }
    let loops = start(Builder::new().accept(AcceptPolicy::Steer));
    let address = loops.addresses()[0];
    for (place, core) in cores.into_iter().enumerate() {
        // On loopback a packet is received where it is sent.
        let places = std::thread::spawn(move || {
            let mut mask = rustix::thread::CpuSet::new();
            mask.set(core);
            rustix::thread::sched_setaffinity(None, &mask).unwrap();
            let clients: Vec<_> = (0..20).map(|_| Client::connect(address).unwrap()).collect();
            clients.iter().map(core_of).collect::<Vec<_>>()
        });
        assert_eq!(places.join().unwrap(), [place; 20], "core {core}");
    }
    end(loops);
}

#[test]
fn a_full_core_hands_over_and_all_full_ones_wait() {
    for policy in [AcceptPolicy::Reuseport, AcceptPolicy::Balance] {
        let loops = start(Builder::new().accept(policy).connections_max(10));
        let connections = loops.connections();
        let mut clients = clients(&loops, 25);
        until(&connections, "both are full", |connections| {
            connections.live() == [10, 10] && connections.served().iter().sum::<u64>() == 20
        });
        // Whoever of them was served makes room for one of those that wait.
        let mut served = std::collections::BTreeSet::new();
        let start = Instant::now();
        while served.len() < 3 {
            assert!(start.elapsed() < PATIENCE, "nobody hears from its core");
            for (index, client) in clients.iter().enumerate() {
                client.set_nonblocking(true).unwrap();
                if matches!((&*client).read(&mut [0]), Ok(1)) {
                    served.insert(index);
                }
                client.set_nonblocking(false).unwrap();
            }
        }
        served.iter().rev().take(3).for_each(|&index| drop(clients.remove(index)));
        until(&connections, "three more are served", |connections| {
            connections.served().iter().sum::<u64>() == 23
        });
        assert!(connections.live().iter().all(|&count| count <= 10), "{connections}");
        drop(clients);
        until(&connections, "all had their turn", |connections| {
            connections.served().iter().sum::<u64>() == 25 && live(connections) == 0
        });
        end(loops);
    }
}

#[test]
fn a_connection_moves_with_what_it_has_received() {
    // Both ends are driven by the first core; the connection goes from it to the second.
    let done = std::sync::Arc::new(Mutex::new(Vec::new()));
    let said = done.clone();
    let loops = Builder::new()
        .cores(two_cores())
        .listen("127.0.0.1:0".parse().unwrap())
        .start(move |mut core| {
            let said = said.clone();
            async move {
                let listener = core.take_listeners().pop().unwrap();
                // Whoever gets it moves it to the other core.
                let there = 1 - core.index();
                let connections = core.connections();
                let serving = spawn(async move {
                    let stream = listener.accept().await.unwrap();
                    let mut first = [0];
                    stream.read_exact(&mut first).await.unwrap();
                    stream.write_all(b"1").await.unwrap();
                    let departed = stream.depart().await.unwrap();
                    let moved = mesh::submit_to(there, move || async move {
                        let (stream, mut received) = departed.arrive();
                        let counts = connections.live();
                        while received.len() < 5 {
                            received
                                .extend_from_slice(&stream.recv().await.unwrap().expect("more is to come"));
                        }
                        stream.write_all(b"2").await.unwrap();
                        stream.flush().await.unwrap();
                        (mesh::here(), counts, received)
                    });
                    let moved = moved.await.unwrap();
                    said.lock().unwrap().push((there, moved));
                });
                core.stopped().await;
                serving.abort();
            }
        })
        .unwrap();
    let mut client = Client::connect(loops.addresses()[0]).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"abc").unwrap();
    let mut answer = [0];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"1");
    client.write_all(b"def").unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"2");
    // The stream was dropped there.
    assert_eq!(client.read(&mut answer).unwrap(), 0);
    let start = Instant::now();
    let (there, (place, counts, received)) = loop {
        if let Some(said) = done.lock().unwrap().pop() {
            break said;
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!((place, received.as_slice()), (there, &b"bcdef"[..]));
    assert_eq!((counts[there], counts[1 - there]), (1, 0));
    end(loops);
}
