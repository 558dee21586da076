//! Bodies in protobuf, through the catalogue.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use schema::Value;
use serde::de::DeserializeOwned;
use testkit::http::Call;

const STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// An object in upstream's envelope.
pub fn to_envelope(kind: &str, object: &serde_json::Value) -> Vec<u8> {
    let row = schema::catalogue::builtin().kind("", "v1", kind).unwrap();
    let object = schema::json::decode(&row.ty, object.to_string().as_bytes()).unwrap().object;
    schema::protobuf::wrap("v1", kind, &schema::protobuf::encode(&object))
}

/// The object in an envelope, which must say that it is one of `kind`.
pub fn from_envelope<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> T {
    let row = schema::catalogue::builtin().kind("", "v1", kind).unwrap();
    let envelope = schema::protobuf::unwrap(bytes).unwrap();
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", kind));
    schema::serde::from_protobuf(&row.ty, &bytes[envelope.raw]).unwrap()
}

/// A watch in protobuf: each frame is its length in four bytes and a `WatchEvent`.
pub struct Frames {
    body: Body,
    buffer: BytesMut,
}

impl Frames {
    pub async fn open(client: &kube::Client, path: &str) -> Self {
        let accept = format!("{STREAM},{}", testkit::http::PROTOBUF);
        let response = Call::get(path).header("accept", &accept).stream(client).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], STREAM);
        Self { body: response.into_body(), buffer: BytesMut::new() }
    }

    /// The next event: its type, and the envelope of its object.
    pub async fn next(&mut self) -> (String, Vec<u8>) {
        loop {
            let length =
                self.buffer.get(..4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()) as usize);
            if let Some(length) = length.filter(|length| self.buffer.len() >= length + 4) {
                self.buffer.advance(4);
                return event(&self.buffer.split_to(length));
            }
            let frame = tokio::time::timeout(testkit::wait::DEADLINE, self.body.frame()).await;
            let frame = frame.expect("an event").expect("the watch goes on").unwrap();
            self.buffer.extend_from_slice(frame.data_ref().unwrap());
        }
    }
}

fn event(frame: &[u8]) -> (String, Vec<u8>) {
    let row = schema::catalogue::builtin().kind("", "v1", "WatchEvent").unwrap();
    let event = schema::protobuf::decode(&row.ty, frame).unwrap();
    let object = event.at(&["object", "raw"]).or_else(|| event.at(&["object"])).and_then(Value::as_bytes);
    (event.str_at(&["type"]).unwrap().to_owned(), object.unwrap().to_vec())
}
