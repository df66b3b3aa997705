//! What a task dump says.

use std::future::pending;
use std::os::fd::AsRawFd;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::task::{Builder, State, TaskDump, WaitsFor, dump};
use annulet::time::sleep;
use annulet::yield_now;

use crate::support::pair;

/// The dump's entry of the task with this name.
fn of(name: &str) -> TaskDump {
    dump().tasks.into_iter().find(|task| task.name.as_deref() == Some(name)).expect("it lives")
}

#[test]
fn a_dump_tells_what_each_task_waits_for() {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, server) = pair().await;
        let (listener_fd, server_fd) = (listener.as_raw_fd(), server.as_raw_fd());
        let spawn = |name, future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            Builder::new().name(name).spawn(future)
        };
        let never = spawn("pending", Box::pin(pending()));
        let tasks = [
            spawn("accepting", Box::pin(async move { drop(listener.accept().await) })),
            spawn("receiving", Box::pin(async move { drop(server.recv().await) })),
            spawn("sleeping", Box::pin(sleep(Duration::from_secs(60)))),
            spawn("for ever", Box::pin(sleep(Duration::MAX))),
            spawn("joining", Box::pin(async move { never.await.unwrap() })),
        ];
        assert_eq!(of("sleeping").state, State::Queued, "it was not polled yet");
        assert_eq!(of("sleeping").waits_for, None);
        yield_now().await;
        let check = |name, expected: &str| {
            let task = of(name);
            assert_eq!(
                (task.state, task.waits_for.unwrap().to_string().as_str()),
                (State::Waiting, expected)
            );
        };
        check("accepting", &format!("accept on descriptor {listener_fd}"));
        check("receiving", &format!("recv on descriptor {server_fd}"));
        check("sleeping", "a timer");
        check("for ever", "a timer that never fires");
        check("pending", "something without a name");
        let pending_id = of("pending").id;
        assert_eq!(of("joining").waits_for, Some(WaitsFor::Task(pending_id)));
        let left = of("sleeping").timer_in.unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        tasks.iter().for_each(annulet::JoinHandle::abort);
        drop(client);
    });
}

#[test]
fn a_dump_tells_of_writers_and_of_connects() {
    annulet::run(async {
        let (client, server) = pair().await;
        let fd = client.as_raw_fd();
        Builder::new().name("writing").spawn(async move {
            client.write_all(&vec![0; 32 << 20]).await.unwrap();
        });
        crate::support::until("the kernel takes no more", || {
            of("writing").waits_for == Some(WaitsFor::Operation { name: "write", fd })
        })
        .await;
        drop(server);
        // Nobody accepts, and one connection is all that the queue takes: the others stay where they are.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        for name in ["first", "second", "third"] {
            Builder::new().name(name).spawn(async move {
                let _stream = TcpStream::connect(address).await;
                pending::<()>().await;
            });
        }
        crate::support::until("the queue is full", || {
            let what = of("third").waits_for.map(|what| what.to_string()).unwrap_or_default();
            what.starts_with("connect on descriptor ")
        })
        .await;
    });
}

#[test]
fn a_note_does_not_outlive_its_poll() {
    annulet::Builder::new()
        .virtual_clock(true)
        .run_local(async {
            Builder::new().name("two").spawn(async {
                sleep(Duration::from_secs(1)).await;
                pending::<()>().await;
            });
            yield_now().await;
            assert!(matches!(of("two").waits_for, Some(WaitsFor::Timer { .. })));
            sleep(Duration::from_secs(2)).await;
            assert_eq!(of("two").waits_for, Some(WaitsFor::Other));
            let since = of("two").since_last_poll;
            assert!(since >= Duration::from_millis(999) && since <= Duration::from_millis(1001), "{since:?}");
        })
        .unwrap();
}

#[test]
fn the_text_has_a_line_for_each_task() {
    annulet::Builder::new()
        .virtual_clock(true)
        .run_local(async {
            let line = line!() + 1;
            Builder::new().name("sleeper").spawn(sleep(Duration::from_millis(2500)));
            annulet::spawn(async { yield_now().await });
            sleep(Duration::from_millis(500)).await;
            let text = dump().to_string();
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].starts_with("loop ") && lines[0].ends_with(": 2 tasks"), "{text}");
            assert!(lines[1].starts_with("  task main (") && lines[1].contains("): running, "), "{text}");
            let start =
                format!("  task 0.0 \"sleeper\" ({}:{line}): waiting for a timer that fires in ", file!());
            assert!(lines[2].starts_with(&start) && lines[2].contains("last polled 500.0ms ago"), "{text}");
        })
        .unwrap();
}

#[test]
fn every_loop_can_be_asked_from_any_thread() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let asked = std::thread::spawn(move || {
        receiver.recv().unwrap();
        annulet::task::print_all()
    });
    annulet::run(async {
        sender.send(()).unwrap();
        crate::support::until("it was asked", || asked.is_finished()).await;
        assert!(asked.join().unwrap() >= 1);
    });
}
