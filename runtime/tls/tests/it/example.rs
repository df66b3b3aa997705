//! The example as a process.

use std::process::Command;

#[test]
fn a_server_and_its_clients_over_tls() {
    // Beside this test's own binary: target/PROFILE/deps/it-HASH and target/PROFILE/examples/tls_echo.
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(std::path::Path::parent).unwrap().join("examples/tls_echo");
    assert!(path.exists(), "the example is not built; run `cargo build -p annulet-tls --examples` first");
    let output = Command::new(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = [
        "connected over Tls13, handshake Full",
        "echo: hello over TLS",
        "connected over Tls13, handshake Resumed",
        "echo: hello again",
        "somebody else: the peer's certificate is not for other.example, but for localhost",
    ];
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), lines);
}
