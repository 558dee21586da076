use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base::{Clock, ManualClock, SystemClock, SystemRandom};
use rustls_pki_types::ServerName;

use super::*;

fn load(dir: &Path) -> Pki {
    Pki::load_or_create(dir, SystemClock::shared(), SystemRandom::shared()).unwrap()
}

fn contents(dir: &Path) -> BTreeMap<String, (u32, String)> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), (mode, text))
        })
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn keys_are_made_once_for_their_owner_alone_and_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("pki");
    let pki = load(&dir);
    pki.apiserver_cert(&names(&["localhost"])).unwrap();
    let first = contents(&dir);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(first.values().all(|(mode, _)| *mode == 0o600), "{:?}", first.keys());
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        [
            "apiserver.crt",
            "apiserver.key",
            "ca.crt",
            "ca.key",
            "encryption.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "sa.key"
        ]
    );
    let again = load(&dir);
    assert_eq!((again.ca_pem(), again.encryption_key()), (pki.ca_pem(), pki.encryption_key()));
    again.apiserver_cert(&names(&["localhost"])).unwrap();
    assert_eq!(contents(&dir), first, "nothing was written again");

    fs::set_permissions(dir.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    load(&dir);
    assert_eq!(contents(&dir)["ca.key"].0, 0o600, "a key that is open to others is closed");
}

#[test]
fn whoever_asks_at_the_same_time_gets_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    let made: Vec<Pki> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load(&dir))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for pki in &made {
        assert_eq!(pki.ca_pem(), made[0].ca_pem());
        assert_eq!(pki.front_proxy_ca_pem(), made[0].front_proxy_ca_pem());
        assert_eq!(pki.encryption_key(), made[0].encryption_key());
    }
}

#[test]
fn a_lost_or_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    load(dir.path());
    let open = || Pki::load_or_create(dir.path(), SystemClock::shared(), SystemRandom::shared());
    let key = fs::read(dir.path().join("ca.key")).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
    fs::copy(dir.path().join("front-proxy-ca.key"), dir.path().join("ca.key")).unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("ca.crt") && error.contains("not the one beside it"), "{error}");
    fs::write(dir.path().join("ca.key"), key).unwrap();
    fs::write(dir.path().join("encryption.key"), "c2hvcnQ=").unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("encryption.key") && error.contains("32 bytes"), "{error}");
}

#[test]
fn the_serving_certificate_follows_its_names_and_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let pki = Pki::load_or_create(dir.path(), clock.clone(), SystemRandom::shared()).unwrap();
    let sans = names(&["kubernetes.default.svc", "10.96.0.1", "127.0.0.1"]);
    let first = pki.apiserver_cert(&sans).unwrap();
    assert_eq!(
        pki.apiserver_cert(&names(&["127.0.0.1", "10.96.0.1", "kubernetes.default.svc"])).unwrap(),
        first
    );
    let more =
        pki.apiserver_cert(&names(&["kubernetes.default.svc", "10.96.0.1", "127.0.0.1", "::1"])).unwrap();
    assert_ne!(more, first);
    let second = pki.apiserver_cert(&sans).unwrap();
    clock.advance(Duration::from_secs(334 * 24 * 3600));
    assert_eq!(pki.apiserver_cert(&sans).unwrap(), second);
    clock.advance(Duration::from_secs(2 * 24 * 3600));
    assert_ne!(pki.apiserver_cert(&sans).unwrap(), second, "less than a month was left");
}

fn der(cert: &CertKey) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(cert.cert_pem.as_bytes()).unwrap()
}

#[test]
fn a_client_certificate_names_its_user_while_it_is_valid() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let pki = Pki::load_or_create(dir.path(), clock.clone(), SystemRandom::shared()).unwrap();
    let cert = der(&pki.issue_client("alice", &["devs", "ops"], HOUR).unwrap());
    let user = pki.user_from_peer_cert(&cert).unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        ("alice", &names(&["devs", "ops", "system:authenticated"])[..])
    );
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    let node = der(&pki.issue_kubelet_client("one", HOUR).unwrap());
    assert_eq!(crate::node::node_of(&user_of_certificate(&node).unwrap()), Some("one"));

    let server = der(&pki.issue_server("alice", &[], &names(&["a"]), HOUR).unwrap());
    assert_eq!(pki.user_from_peer_cert(&server), None, "a serving certificate shows nobody");
    let front = der(&pki.issue_front_proxy_client("alice", HOUR).unwrap());
    assert_eq!(pki.user_from_peer_cert(&front), None, "another authority");
    let strangers = der(&load(other.path()).issue_client("alice", &["system:masters"], HOUR).unwrap());
    assert_eq!(pki.user_from_peer_cert(&strangers), None, "another cluster's authority of the same name");
    clock.advance(2 * HOUR);
    assert_eq!(pki.user_from_peer_cert(&cert), None, "expired");
}

#[test]
fn more_groups_than_a_certificate_can_hold_are_refused_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let error = load(dir.path()).issue_client("a", &["b", "c", "d"], HOUR).unwrap_err().to_string();
    assert!(error.contains("3 groups"), "{error}");
}

#[test]
fn a_request_is_signed_with_its_own_subject() {
    let dir = tempfile::tempdir().unwrap();
    let pki = load(dir.path());
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:two");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let cert_pem = pki.sign_request(&csr, &[Usage::Client], HOUR).unwrap();
    let cert = der(&CertKey { cert_pem, key_pem: String::new() });
    assert_eq!(crate::node::node_of(&pki.user_from_peer_cert(&cert).unwrap()), Some("two"));
}

/// Shakes hands in memory; the client certificate that the server saw, or why it failed.
fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
) -> Result<Option<User>, String> {
    let mut server = rustls::ServerConnection::new(server).unwrap();
    let mut client =
        rustls::ClientConnection::new(client, ServerName::try_from("localhost").unwrap()).unwrap();
    while server.is_handshaking() || client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().map_err(|e| e.to_string())?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|e| e.to_string())?;
    }
    Ok(server.peer_certificates().and_then(|chain| user_of_certificate(chain.first()?)))
}

#[test]
fn tls_takes_clients_with_and_without_a_certificate_and_no_strangers() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (pki, stranger) = (load(dir.path()), load(other.path()));
    let serving = pki.apiserver_cert(&names(&["localhost"])).unwrap();
    let server = server_config(&serving, Some(pki.ca_pem())).unwrap();
    let client = |cert: Option<&CertKey>| client_config(pki.ca_pem(), cert).unwrap();
    assert_eq!(handshake(server.clone(), client(None)), Ok(None));
    let cert = pki.issue_client("alice", &[], HOUR).unwrap();
    assert_eq!(handshake(server.clone(), client(Some(&cert))).unwrap().unwrap().name, "alice");
    let forged = stranger.issue_client("alice", &[], HOUR).unwrap();
    assert!(handshake(server.clone(), client(Some(&forged))).is_err());
    assert!(handshake(server, client_config(stranger.ca_pem(), None).unwrap()).is_err(), "an unknown server");
}

#[test]
fn authorities_of_clients_are_replaced_while_a_server_serves() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (pki, next) = (load(dir.path()), load(other.path()));
    let serving = Arc::new(Serving::with(&pki.apiserver_cert(&names(&["localhost"])).unwrap()).unwrap());
    let clients = Arc::new(Authorities::of(pki.ca_pem()).unwrap());
    let server = server_config_by(serving, Some(clients.clone()), &Protection::default()).unwrap();
    let client =
        |of: &Pki| client_config(pki.ca_pem(), Some(&of.issue_client("alice", &[], HOUR).unwrap())).unwrap();
    assert!(handshake(server.clone(), client(&pki)).is_ok());
    assert!(clients.replace("nothing").is_err());
    assert!(handshake(server.clone(), client(&pki)).is_ok(), "what cannot be used replaces nothing");
    clients.replace(next.ca_pem()).unwrap();
    assert!(handshake(server.clone(), client(&next)).is_ok());
    assert!(handshake(server, client(&pki)).is_err());
}
