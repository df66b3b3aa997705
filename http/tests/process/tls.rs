//! annulet-serve with certificates.
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulet_http::Client;
use annulet_http::client::Error;
use annulet_http::tls::TlsConnector;

use crate::authority::Authority;
use crate::ends::refused;
use crate::served::{Served, first_core};
use crate::supervised::Supervised;

/// Bounds whatever waits for the other process.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Certificates and keys in a folder of their own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `name.pem` and `name.key`, signed by `authority` for `names`.
    fn write(&self, name: &str, authority: &Authority, names: &[&str]) {
        let identity = authority.sign(names);
        fs::write(self.path(&format!("{name}.pem")), identity.chain).unwrap();
        fs::write(self.path(&format!("{name}.key")), identity.key).unwrap();
    }

    /// The arguments for these pairs.
    fn arguments(&self, names: &[&str]) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let pair = |name: &&str| {
            let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
            ["--tls-cert".to_owned(), text(cert), "--tls-key".to_owned(), text(key)]
        };
        names.iter().flat_map(pair).collect()
    }
}

fn start(arguments: &[String]) -> Served {
    Served::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The page `/`, from a server that has to be believed because of `authority`.
fn get(served: SocketAddr, name: &str, authority: &Authority) -> Result<String, Error> {
    let client = Client::builder().add_root_pem(authority.root.as_bytes()).build();
    fetch(served, name, client)
}

fn fetch(served: SocketAddr, name: &str, client: Client) -> Result<String, Error> {
    let url = format!("https://{name}:{}/", served.port());
    annulet::run(async move {
        let got = async { client.get(url).send().await?.text().await };
        annulet::time::timeout(TIME_MAX, got).await.expect("an answer in time")
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIME_MAX, "it takes too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn certificates_by_name_and_again_on_hangup() {
    let (folder, old, new) = (Folder::new(), Authority::new("old"), Authority::new("new"));
    folder.write("a", &old, &["localhost"]);
    folder.write("b", &old, &["127.0.0.1"]);
    let mut served = start(&folder.arguments(&["a", "b"]));
    assert!(served.greeting.contains("listening on https://127.0.0.1:"), "{}", served.greeting);
    assert_eq!(get(served.address, "localhost", &old).unwrap(), "<h1>Index</h1>");
    assert!(get(served.address, "localhost", &new).unwrap_err().is_tls());

    folder.write("a", &new, &["localhost"]);
    served.signal("HUP");
    wait_until("the new certificate is served", || get(served.address, "localhost", &new).is_ok());
    assert!(get(served.address, "localhost", &old).unwrap_err().is_tls());

    // Half of a pair: all stays as it is. The line on stderr says when that is known.
    fs::write(folder.path("a.key"), "nothing").unwrap();
    served.signal("HUP");
    served.wait_for_line("the old certificates stay");
    assert_eq!(get(served.address, "localhost", &new).unwrap(), "<h1>Index</h1>");
    served.signal("TERM");
    assert!(served.wait(TIME_MAX).success());
}

/// A worker that takes the place of another reads them; if it cannot, what was there stays.
#[test]
fn workers_that_are_replaced_read_the_certificates_again() {
    for (mode, otherwise) in
        [("threads", "the old certificates stay"), ("processes", "a new worker has failed to start")]
    {
        let (folder, old, new) = (Folder::new(), Authority::new("old"), Authority::new("new"));
        folder.write("a", &old, &["localhost"]);
        let (core, tls) = (first_core(), folder.arguments(&["a"]));
        let mut arguments = vec!["--workers", mode, "--cores", &core];
        arguments.extend(tls.iter().map(String::as_str));
        let mut served = Supervised::start(&arguments);
        assert_eq!(get(served.address, "localhost", &old).unwrap(), "<h1>Index</h1>");

        folder.write("a", &new, &["localhost"]);
        served.signal("HUP");
        served.hear("every worker was replaced", 1);
        assert_eq!(get(served.address, "localhost", &new).unwrap(), "<h1>Index</h1>");
        assert!(get(served.address, "localhost", &old).unwrap_err().is_tls(), "{mode}");

        fs::write(folder.path("a.key"), "nothing").unwrap();
        served.signal("HUP");
        served.hear(otherwise, 1);
        assert_eq!(get(served.address, "localhost", &new).unwrap(), "<h1>Index</h1>");
        served.signal("TERM");
        assert!(served.wait().success(), "{mode}");
    }
}

#[test]
fn clients_need_a_certificate_where_they_are_asked_for_one() {
    let (folder, authority) = (Folder::new(), Authority::new("both sides"));
    folder.write("a", &authority, &["localhost"]);
    fs::write(folder.path("ca.pem"), &authority.root).unwrap();
    let mut arguments = folder.arguments(&["a"]);
    arguments.extend(["--tls-client-ca".to_owned(), folder.path("ca.pem").to_str().unwrap().to_owned()]);
    let served = start(&arguments);
    assert!(get(served.address, "localhost", &authority).is_err());
    let identity = authority.sign(&["a client"]);
    let connector = TlsConnector::builder()
        .root_pem(authority.root.as_bytes())
        .certificate(identity.chain.as_bytes(), identity.key.as_bytes())
        .build()
        .unwrap();
    let client = Client::builder().tls(connector);
    assert_eq!(fetch(served.address, "localhost", client.build()).unwrap(), "<h1>Index</h1>");
}

#[test]
fn mistakes_are_told_in_one_line() {
    let (folder, authority) = (Folder::new(), Authority::new("mistakes"));
    folder.write("a", &authority, &["localhost"]);
    folder.write("b", &authority, &["localhost"]);
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key) = (name(&folder.path("a.pem")), name(&folder.path("a.key")));
    let (other, none) = (name(&folder.path("b.key")), name(&folder.path("none")));
    let check = |arguments: &[&str], expected: &[&str]| {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let said = refused(&all);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        for words in expected {
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
    };
    check(&["--tls-cert", &none, "--tls-key", &key], &[&none, "No such file"]);
    check(&["--tls-cert", &cert, "--tls-key", &none], &[&none, "No such file"]);
    check(&["--tls-cert", &cert, "--tls-key", &other], &["does not belong", &cert, &other]);
    check(&["--tls-cert", &key, "--tls-key", &key], &["no certificate", &key]);
    check(&["--tls-cert", &cert, "--tls-key", &cert], &["no unencrypted private key", &cert]);
    check(&["--tls-cert", &cert], &["belong together", "1 of the one and 0 of the other"]);
    check(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &none], &[&none, "No such file"]);
    let served = start(&folder.arguments(&["a"]));
    let address = served.address.to_string();
    let said = refused(&["--listen", &address, "--tls-cert", &cert, "--tls-key", &key]);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}
