//! annulet-serve on two cores: which of them get a loop, and how connections are spread over them. Alone, and with threads that
//! are watched over.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::ends::refused;
use crate::operations::{admin, get};
use crate::served::{Served, answer, ask, first_core};
use crate::supervised::{Supervised, TIME_MAX, until};

/// A core for each of two loops; none on a machine with one.
fn two_cores(test: &str) -> Option<String> {
    let cores = annulet::placement::available_cores().unwrap();
    if cores.len() < 2 {
        println!("{test}: skipped, there is one core only");
        return None;
    }
    Some(format!("{},{}", cores[0], cores[1]))
}

/// The values of a metric, one for each loop that has it.
fn values(greeting: &str, name: &str) -> Vec<f64> {
    let text = get(admin(greeting), "/metrics");
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.trim_end().parse().ok());
    text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).filter_map(value).collect()
}

/// Two loops that are watched over, or not; with an admin listener, and both listening.
enum Two {
    Alone(Served),
    Watched(Supervised),
}

impl Two {
    fn each(cores: &str, flags: &[&str], check: impl Fn(Two)) {
        let all = [&["--admin", "127.0.0.1:0", "--cores", cores], flags].concat();
        for is_watched in [false, true] {
            let two = if is_watched {
                Two::Watched(Supervised::start(&[&all[..], &["--workers", "threads"]].concat()))
            } else {
                Two::Alone(Served::start(&all))
            };
            until("both listen", || (two.values("annulet_listeners") == [1.0, 1.0]).then_some(()));
            check(two);
        }
    }

    fn values(&self, name: &str) -> Vec<f64> {
        match self {
            Two::Alone(served) => values(&served.greeting, name),
            Two::Watched(served) => values(&served.greeting, name),
        }
    }

    fn client(&self) -> TcpStream {
        client(match self {
            Two::Alone(served) => served.address,
            Two::Watched(served) => served.address,
        })
    }

    /// Ends it; gives what it said, with how connections were spread if it is one that tells.
    fn end(self, tells: bool) -> String {
        match self {
            Two::Alone(mut served) => {
                served.signal("TERM");
                assert!(served.wait(TIME_MAX).success());
                served.said()
            }
            Two::Watched(mut served) => {
                served.signal("TERM");
                assert!(served.wait().success());
                // Who reads it may be behind.
                served.hear("connections per core: served [", usize::from(tells));
                served.said().clone()
            }
        }
    }
}

/// One that has asked.
fn client(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    ask(&mut stream, "/");
    stream
}

#[test]
fn two_hundred_connections_as_the_skew_gauge_has_them() {
    let Some(cores) = two_cores("two_hundred_connections_as_the_skew_gauge_has_them") else { return };
    for policy in ["reuseport", "balance"] {
        Two::each(&cores, &["--accept", policy], |two| {
            let mut clients: Vec<TcpStream> = (0..200).map(|_| two.client()).collect();
            for client in &mut clients {
                assert_eq!(answer(client).1, "<h1>Index</h1>");
            }
            // Counters are written once a turn, the loops' each by itself.
            let open = || two.values("annulet_http_connections");
            let connections = until("all are counted", || {
                Some(open()).filter(|open| open.len() == 2 && open.iter().sum::<f64>() == 200.0)
            });
            let skew = two.values("annulet_http_connections_skew");
            println!("--accept {policy}: connections per core {connections:?}, skew {skew:?}");
            assert_eq!(skew, [(connections[0] - 100.0).abs() / 100.0], "{connections:?}");
            if policy == "balance" {
                assert!(skew[0] <= 0.05, "{connections:?}");
            }
            drop(clients);
            let said = two.end(policy == "balance");
            assert_eq!(said.contains("connections per core: served"), policy == "balance", "{said}");
        });
    }
}

#[test]
fn beyond_connections_max_clients_wait() {
    let Some(cores) = two_cores("beyond_connections_max_clients_wait") else { return };
    Two::each(&cores, &["--connections-max", "5"], |two| {
        let mut waiting: Vec<TcpStream> = (0..15).map(|_| two.client()).collect();
        waiting.iter().for_each(|client| client.set_nonblocking(true).unwrap());
        let mut inside = Vec::new();
        let mut answered = 0;
        let start = Instant::now();
        while answered < 15 {
            assert!(start.elapsed() < TIME_MAX, "{answered} of 15 had their turn");
            for mut client in std::mem::take(&mut waiting) {
                match client.read(&mut [0; 4096]) {
                    Ok(count) => {
                        assert_ne!(count, 0, "nobody is sent away");
                        answered += 1;
                        inside.push(client);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => waiting.push(client),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(inside.len() <= 10, "more than two loops may have");
            let connections = two.values("annulet_http_connections");
            assert!(connections.iter().all(|&count| count <= 5.0), "{connections:?}");
            if inside.len() == 10 {
                // One goes, and the next of those that wait has its turn.
                inside.truncate(9);
            }
        }
        drop(inside);
        let said = two.end(true);
        let served = said.split("served [").nth(1).and_then(|rest| rest.split(']').next()).expect(&said);
        assert_eq!(served.split(", ").map(|count| count.parse::<u32>().unwrap()).sum::<u32>(), 15, "{said}");
    });
}

/// Clients come all the while, each with a new connection; some of them are on their way from one core to another whenever a
/// worker goes.
#[test]
fn no_client_is_lost_while_workers_that_share_connections_are_replaced() {
    const ROLLS: usize = 10;
    let Some(cores) = two_cores("no_client_is_lost_while_workers_that_share_connections_are_replaced") else {
        return;
    };
    for flags in [&["--accept", "balance"][..], &["--connections-max", "3", "--accept", "balance"]] {
        let all = [&["--workers", "threads", "--drain-idle", "10ms", "--cores", &cores], flags].concat();
        let mut served = Supervised::start(&all);
        let (address, is_over, answered) = (served.address, AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let mut client = client(address);
                        assert_eq!(answer(&mut client).1, "<h1>Index</h1>");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 1..=ROLLS {
                let before = answered.load(Ordering::Relaxed);
                served.signal("HUP");
                served.hear("every worker was replaced", round);
                until("more are answered", || (answered.load(Ordering::Relaxed) > before + 20).then_some(()));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        served.signal("TERM");
        assert!(served.wait().success());
        served.hear("connections per core: served", 1);
        assert!(!served.said().contains("cut"), "{}", served.said());
    }
}

#[test]
fn steering_serves() {
    let Some(cores) = two_cores("steering_serves") else { return };
    Two::each(&cores, &["--accept", "steer"], |two| {
        if let Two::Watched(served) = &two {
            // The sockets stay, and with them the program that chooses among them.
            served.signal("HUP");
            served.hear("every worker was replaced", 1);
        }
        let mut clients: Vec<TcpStream> = (0..8).map(|_| two.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(answer(client).1, "<h1>Index</h1>"));
        drop(clients);
        two.end(true);
    });
}

#[test]
fn placement_chooses_the_cores_and_draws_a_map() {
    let first = first_core();
    let served = Served::start(&["--placement", &first]);
    let map =
        served.greeting.lines().find(|line| line.starts_with("placement 1 loop ")).expect(&served.greeting);
    assert!(map.contains(" core"), "{map}");
    assert!(served.greeting.contains(&format!(" core {first} = loop 0;")), "{}", served.greeting);
    assert!(served.greeting.contains(&format!("\ncores {first}\n")), "{}", served.greeting);
    assert_eq!(answer(&mut client(served.address)).1, "<h1>Index</h1>");
    for policy in ["core", "physical", "node"] {
        let served = Served::start(&["--placement", policy]);
        let cores =
            served.greeting.lines().find_map(|line| line.strip_prefix("cores ")).expect("it names them");
        let loops = cores.split(',').count();
        assert!(served.greeting.contains(&format!("placement {loops} loop")), "{}", served.greeting);
    }
    assert!(refused(&["--placement", "core", "--cores", "0"]).contains("cannot be used with"));
    assert!(refused(&["--placement", "everywhere"]).contains("everywhere"));
}

/// A control group of one CPU, which is gone when this is dropped.
struct OneCpu(std::path::PathBuf);

impl OneCpu {
    /// Version 1, or version 2.
    fn new() -> std::io::Result<OneCpu> {
        let name = format!("annulet-test-{}", std::process::id());
        let old = std::path::Path::new("/sys/fs/cgroup/cpu");
        let (parent, quota, value) = if old.is_dir() {
            (old, "cpu.cfs_quota_us", "100000")
        } else {
            (old.parent().expect("it has one"), "cpu.max", "100000 100000")
        };
        let group = OneCpu(parent.join(name));
        std::fs::create_dir(&group.0)?;
        std::fs::write(group.0.join(quota), value)?;
        Ok(group)
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        // It was not made, or whoever was in it is not quite gone: nothing that the test is about.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn in_a_container_of_one_cpu_there_is_one_loop_and_it_says_why() {
    let name = "in_a_container_of_one_cpu_there_is_one_loop_and_it_says_why";
    if two_cores(name).is_none() {
        return;
    }
    let group = match OneCpu::new() {
        Ok(group) => group,
        Err(error) => return println!("{name}: skipped, there is no control group to be had: {error}"),
    };
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display());
    for workers in [&[][..], &["--workers", "threads"], &["--workers", "processes"]] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_annulet-serve")]).args(workers);
        let mut served = Served::start_by(&mut command);
        let cores = served.greeting.lines().find_map(|line| line.strip_prefix("cores ")).unwrap();
        assert_eq!(cores.split(',').count(), 1, "{}", served.greeting);
        assert_eq!(answer(&mut client(served.address)).1, "<h1>Index</h1>");
        served.signal("TERM");
        assert!(served.wait(TIME_MAX).success());
        let said = served.said();
        assert!(said.contains("CPU quota of 1.00") && said.contains("1 loop instead of"), "{said}");
    }
}
