//! Forwarding, to a server of the test's own in a network namespace of its own.

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs a test on a thread with a network namespace of its own, where port 53 is free.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make namespaces");
        return;
    }
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            crate::link::Links::open().unwrap().up("lo").await.unwrap();
            test().await;
        });
    })
    .join()
    .unwrap();
}

fn server(upstream: Vec<IpAddr>) -> Server {
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 5353));
    let services = Informer::new(client.clone(), Resource::all("", "v1", "Service", "services"));
    let slices = Resource::all("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    Server {
        config: Config { listen, domain: "cluster.local".to_owned(), upstream },
        services: services.reflector(),
        slices: Informer::new(client, slices).reflector(),
    }
}

/// Answers each question with the address 192.0.2.7.
async fn other() {
    let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        let name = question.queries[0].name().clone();
        reply.add_query(question.queries[0].clone());
        reply.answers = records(&name, Answer::A(vec![Ipv4Addr::new(192, 0, 2, 7)]));
        socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
    }
}

fn question(name: &str) -> Message {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(absolute(name), RecordType::A));
    question
}

#[test]
fn other_names_are_asked_for_elsewhere() {
    alone(|| async {
        let _other = tokio::spawn(other());
        let server = server(vec![Ipv4Addr::LOCALHOST.into()]);
        let asked = question("example.com").to_vec().unwrap();
        assert!(matches!(server.local(&asked, MAX_UDP), Reply::Forward));
        let reply = Message::from_vec(&server.forward(&asked, false).await.unwrap()).unwrap();
        assert_eq!((reply.metadata.id, reply.answers.len()), (7, 1));
        assert!(reply.answers[0].to_string().contains("192.0.2.7"), "{}", reply.answers[0]);

        // What an ExternalName leads to stands behind it.
        let mut begun = Message::response(8, OpCode::Query);
        begun.add_query(Query::query(absolute("out.n.svc.cluster.local"), RecordType::A));
        begun.answers =
            records(&absolute("out.n.svc.cluster.local"), Answer::Cname("example.com".to_owned()));
        let whole = server.follow(begun, absolute("example.com"), false).await.unwrap();
        let whole = Message::from_vec(&whole).unwrap();
        let shown: Vec<String> = whole.answers.iter().map(ToString::to_string).collect();
        assert!(shown[0].contains("CNAME example.com.") && shown[1].contains("192.0.2.7"), "{shown:?}");
        assert_eq!((shown.len(), whole.metadata.id), (2, 8));
    });
}

#[test]
fn nobody_who_answers_is_a_failure_that_is_told() {
    alone(|| async {
        let server = server(vec![Ipv4Addr::LOCALHOST.into()]);
        let asked = question("example.com").to_vec().unwrap();
        let reply = Message::from_vec(&server.forward(&asked, false).await.unwrap()).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    });
}
