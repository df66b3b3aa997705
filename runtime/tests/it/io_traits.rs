//! Sockets in the hands of crates that only know the traits.

use std::io::IoSlice;
use std::net::Shutdown;

use annulet::net::{TcpStream, UnixStream};

use super::support::pair;

/// A peer that answers each line with it in capitals and says goodbye after the end.
async fn shouting(stream: TcpStream) {
    use futures_util::{AsyncBufReadExt, AsyncWriteExt, StreamExt};
    let (reader, mut writer) = stream.into_split();
    let mut lines = futures_util::io::BufReader::new(reader).lines();
    while let Some(line) = lines.next().await {
        writer.write_all(line.unwrap().to_uppercase().as_bytes()).await.unwrap();
        AsyncWriteExt::write_all(&mut writer, b"\n").await.unwrap();
    }
    AsyncWriteExt::write_all(&mut writer, b"BYE\n").await.unwrap();
    AsyncWriteExt::close(&mut writer).await.unwrap();
}

#[test]
fn futures_util_reads_writes_and_half_closes() {
    use futures_util::{AsyncReadExt, AsyncWriteExt};
    annulet::run(async {
        let (mut client, server) = pair().await;
        let server = annulet::spawn(shouting(server));
        AsyncWriteExt::write_all(&mut client, b"one\ntwo\n").await.unwrap();
        AsyncWriteExt::close(&mut client).await.unwrap();
        AsyncWriteExt::close(&mut client).await.expect("once more does no harm");
        let mut answer = String::new();
        AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
        assert_eq!(answer, "ONE\nTWO\nBYE\n");
        server.await.unwrap();
    });
}

#[test]
fn futures_util_copies_between_borrowed_streams() {
    annulet::run(async {
        let (client, server) = pair().await;
        let echo = annulet::spawn(async move {
            let count = futures_util::io::copy(&server, &mut &server).await.unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            count
        });
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let sent = bytes.clone();
        let (mut reader, mut writer) = client.into_split();
        let sender = annulet::spawn(async move {
            futures_util::AsyncWriteExt::write_all(&mut writer, &sent).await.unwrap();
            futures_util::AsyncWriteExt::close(&mut writer).await.unwrap();
        });
        let mut back = Vec::new();
        futures_util::AsyncReadExt::read_to_end(&mut reader, &mut back).await.unwrap();
        assert_eq!(echo.await.unwrap(), bytes.len() as u64);
        sender.await.unwrap();
        assert!(back == bytes);
    });
}

#[test]
fn vectored_writes_gather_in_order() {
    annulet::run(async {
        let (mut client, server) = pair().await;
        let parts = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        let count = futures_util::AsyncWriteExt::write_vectored(&mut client, &parts).await.unwrap();
        assert_eq!(count, 7);
        let mut word = [0; 7];
        server.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"one two");
        // More than there is room for is written in part.
        let large = vec![0; 100_000];
        let parts = [IoSlice::new(&large), IoSlice::new(&large)];
        let count = tokio::io::AsyncWriteExt::write_vectored(&mut client, &parts).await.unwrap();
        assert!(count > 0 && count <= 64 * 1024, "{count}");
    });
}

#[test]
fn tokio_util_frames_lines() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_util::codec::{Framed, LinesCodec};
    annulet::run(async {
        let (client, server) = pair().await;
        let server = annulet::spawn(shouting(server));
        let mut framed = Framed::new(client, LinesCodec::new());
        framed.send("first").await.unwrap();
        assert_eq!(framed.next().await.unwrap().unwrap(), "FIRST");
        framed.send("second").await.unwrap();
        assert_eq!(framed.next().await.unwrap().unwrap(), "SECOND");
        tokio::io::AsyncWriteExt::shutdown(framed.get_mut()).await.unwrap();
        assert_eq!(framed.next().await.unwrap().unwrap(), "BYE");
        assert!(framed.next().await.is_none());
        server.await.unwrap();
    });
}

#[test]
fn tokio_reads_lines_and_copies_both_ways_over_unix_streams() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
    annulet::run(async {
        let (mut client, mut entry) = UnixStream::pair().unwrap();
        let (mut exit, server) = UnixStream::pair().unwrap();
        let proxy =
            annulet::spawn(
                async move { tokio::io::copy_bidirectional(&mut entry, &mut exit).await.unwrap() },
            );
        let server = annulet::spawn(async move {
            let (reader, mut writer) = server.into_split();
            let mut lines = tokio::io::BufReader::new(reader).lines();
            let mut count = 0;
            while let Some(line) = lines.next_line().await.unwrap() {
                assert_eq!(line, "again");
                count += 1;
            }
            AsyncWriteExt::write_all(&mut writer, format!("{count} lines").as_bytes()).await.unwrap();
            AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        });
        AsyncWriteExt::write_all(&mut client, "again\n".repeat(1000).as_bytes()).await.unwrap();
        AsyncWriteExt::shutdown(&mut client).await.unwrap();
        let mut answer = String::new();
        AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
        assert_eq!(answer, "1000 lines");
        server.await.unwrap();
        assert_eq!(proxy.await.unwrap(), (6000, 10));
    });
}

/// A path of its own, removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Scratch(std::env::temp_dir().join(format!("annulet-io-traits-{name}-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn futures_util_reads_writes_and_seeks_in_files() {
    use futures_util::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
    let scratch = Scratch::new("futures");
    annulet::run(async {
        let options = annulet::fs::File::options().read(true).write(true).create(true).open(&scratch.0).await;
        let mut file = options.unwrap();
        AsyncWriteExt::write_all(&mut file, b"one\ntwo\nthree").await.unwrap();
        AsyncWriteExt::close(&mut file).await.unwrap();
        assert_eq!(std::fs::read(&scratch.0).unwrap(), b"one\ntwo\nthree", "closing has flushed");
        assert_eq!(AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(4)).await.unwrap(), 4);
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert_eq!(line, "two\n");
        reader.seek(std::io::SeekFrom::Current(1)).await.unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hree");
    });
}

#[test]
fn tokio_reads_writes_and_seeks_in_files() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufStream};
    let scratch = Scratch::new("tokio");
    annulet::run(async {
        let options = annulet::fs::File::options().read(true).write(true).create(true).open(&scratch.0).await;
        let mut file = BufStream::new(options.unwrap());
        file.write_all(b"one\ntwo\nthree").await.unwrap();
        file.flush().await.unwrap();
        assert_eq!(std::fs::read(&scratch.0).unwrap(), b"one\ntwo\nthree");
        assert_eq!(file.seek(std::io::SeekFrom::Start(4)).await.unwrap(), 4);
        let mut line = String::new();
        file.read_line(&mut line).await.unwrap();
        assert_eq!(line, "two\n");
        assert_eq!(file.stream_position().await.unwrap(), 8);
        assert!(file.seek(std::io::SeekFrom::Current(-9)).await.is_err());
        assert_eq!(file.seek(std::io::SeekFrom::End(-2)).await.unwrap(), 11, "the error is not told twice");
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"ee");
    });
}
