//! The server as a shim meets it.

use std::time::Duration;

use api::events::EventKind;
use containerd_shim_protos::events::task::TaskStart;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::well_known_types::any::Any as RpcAny;
use protobuf::{Message, MessageField};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context;

use super::*;

const SOON: Duration = Duration::from_secs(30);

async fn publisher(socket: &Path) -> EventsClient {
    EventsClient::new(Client::new(Socket::new(UnixStream::connect(socket).await.unwrap())))
}

fn started(pid: u32) -> ForwardRequest {
    let message = TaskStart { container_id: "web".into(), pid, ..TaskStart::default() };
    let event = RpcAny {
        type_url: "containerd.events.TaskStart".into(),
        value: message.write_to_bytes().unwrap(),
        ..RpcAny::default()
    };
    let envelope = Envelope {
        topic: "/tasks/start".into(),
        event: MessageField::some(event),
        ..Envelope::default()
    };
    ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() }
}

fn pid(published: Published) -> u32 {
    match published.news {
        News::Event(api::Event { kind: EventKind::Started { pid }, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

async fn publish(client: &EventsClient, pid: u32, limit: Duration) -> ttrpc::Result<()> {
    client.forward(context::with_duration(limit), &started(pid)).await.map(drop)
}

#[tokio::test]
async fn events_come_in_order_and_a_shim_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("events");
    let (sender, mut events) = mpsc::channel(2);
    let server = Events::serve(&socket, sender).await.unwrap();
    let client = publisher(server.socket()).await;
    for number in 1..=2 {
        publish(&client, number, SOON).await.unwrap();
    }
    // No room: the shim is told so by its deadline. A little later the server gives up as well.
    publish(&client, 3, Duration::from_millis(100)).await.unwrap_err();
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { publish(&waiting, 4, SOON).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "there is no room");
    let mut taken = Vec::new();
    while taken.last() != Some(&4) {
        let next = tokio::time::timeout(SOON, events.recv()).await;
        taken.push(pid(next.unwrap().unwrap()));
    }
    assert!([&[1, 2, 4][..], &[1, 2, 3, 4]].contains(&&*taken), "{taken:?}");
    waiting.await.unwrap().unwrap();
    // Nobody listens to the daemon's own end any more.
    drop(events);
    let error = publish(&client, 5, SOON).await.unwrap_err();
    assert!(error.to_string().contains("no more events"), "{error}");
    let empty = client.forward(context::with_duration(SOON), &ForwardRequest::default()).await;
    assert!(empty.unwrap_err().to_string().contains("without an envelope"));
}

#[tokio::test]
async fn next_daemon_takes_the_place_of_one_that_is_gone_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("events");
    let (sender, mut events) = mpsc::channel(2);
    // As one that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let server = Events::serve(&socket, sender.clone()).await.unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let taken = Events::serve(&socket, sender.clone()).await.unwrap_err();
    assert!(matches!(&taken, Error::AlreadyExists(text) if text.contains("events")), "{taken}");
    let client = publisher(&socket).await;
    server.close().await;
    assert!(!socket.exists());
    publish(&client, 1, SOON).await.unwrap_err();
    let _server = Events::serve(&socket, sender).await.unwrap();
    publish(&publisher(&socket).await, 2, SOON).await.unwrap();
    assert_eq!(pid(events.recv().await.unwrap()), 2);
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (sender, _events) = mpsc::channel(1);
    let nowhere = Events::serve(&dir.path().join("no/events"), sender).await.unwrap_err();
    assert!(matches!(nowhere, Error::Other(_)), "{nowhere}");
}
