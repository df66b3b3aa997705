//! The same echo over TCP, UDP and a Unix socket, all on one loop. Python's `create_server`, and its relatives.

use std::io;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use annulet::spawn;

async fn serve_tcp(listener: TcpListener) -> io::Result<()> {
    loop {
        let stream = listener.accept().await?;
        spawn(async move {
            while let Some(bytes) = stream.recv().await? {
                stream.write_all(&bytes).await?;
            }
            io::Result::Ok(())
        });
    }
}

async fn serve_unix(listener: UnixListener) -> io::Result<()> {
    loop {
        let stream = listener.accept().await?;
        spawn(async move {
            while let Some(bytes) = stream.recv().await? {
                stream.write_all(&bytes).await?;
            }
            io::Result::Ok(())
        });
    }
}

async fn serve_udp(socket: UdpSocket) -> io::Result<()> {
    loop {
        let datagram = socket.recv_datagram().await?;
        socket.send_to(&datagram, datagram.sender()).await?;
    }
}

#[annulet::main]
async fn main() -> io::Result<()> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    // A name that begins with NUL is no file, and goes with its socket.
    let name = format!("\0annulet-example-servers-{}", std::process::id());
    let unix = UnixListener::bind(&name)?;
    let (tcp_address, udp_address) = (tcp.local_addr()?, udp.local_addr()?);
    spawn(serve_tcp(tcp));
    spawn(serve_udp(udp));
    spawn(serve_unix(unix));

    let mut answer = [0; 64];
    let stream = TcpStream::connect(tcp_address).await?;
    stream.write_all(b"hello over TCP").await?;
    stream.read_exact(&mut answer[..14]).await?;
    println!("TCP: {}", String::from_utf8_lossy(&answer[..14]));

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(udp_address).await?;
    socket.send(b"hello over UDP").await?;
    // Datagrams may be lost, if not on this machine: a wait for one has a limit.
    let received = annulet::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await;
    let count = received.expect("the loopback loses nothing")?;
    println!("UDP: {}", String::from_utf8_lossy(&answer[..count]));

    let stream = UnixStream::connect(&name).await?;
    stream.write_all(b"hello over a Unix socket").await?;
    stream.read_exact(&mut answer[..24]).await?;
    println!("Unix: {}", String::from_utf8_lossy(&answer[..24]));
    Ok(())
}
