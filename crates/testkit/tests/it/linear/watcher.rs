use serde_json::Value;
use testkit::http::{Call, revision};
use testkit::{Watch, until};

use super::OBJECTS;
use super::log::{Objects, Told};

/// A watch without a break.
pub struct Part {
    /// Where it begins.
    pub from: u64,
    /// The objects there, if it began with a list.
    pub state: Option<Objects>,
    /// What it told.
    pub told: Vec<Told>,
}

/// What a client knows that watches to the end: taken up where a connection broke, and with a list where the server
/// said that this is too long ago.
pub struct Following {
    pub parts: Vec<Part>,
}

/// Watches from `from` on until the object named `end` is there.
pub async fn follow(client: kube::Client, from: u64) -> Following {
    let mut parts = vec![Part { from, state: None, told: Vec::new() }];
    loop {
        let part = parts.last_mut().unwrap();
        let last = part.told.last().map_or(part.from, |told| told.revision);
        let path = format!("{OBJECTS}?watch=true&resourceVersion={last}");
        let response = until("a watch", || async {
            Call::get(&path).stream(&client).await.ok().filter(|response| response.status() == 200)
        })
        .await;
        let (mut watch, mut gone) = (Watch::of(response), false);
        while let Some(event) = watch.next().await {
            if event["type"] == "ERROR" {
                assert_eq!(event["object"]["code"], 410, "{event}");
                gone = true;
                break;
            }
            part.told.push(told(&event));
            if event["object"]["metadata"]["name"] == "end" {
                return Following { parts };
            }
        }
        if gone {
            parts.push(begin_anew(&client).await);
        }
    }
}

async fn begin_anew(client: &kube::Client) -> Part {
    let list = until("a list", || async {
        Call::get(OBJECTS).try_send(client).await.ok().filter(|answer| answer.code == 200)
    })
    .await
    .json();
    Part { from: revision(&list), state: Some(objects(&list)), told: Vec::new() }
}

/// The objects of a list.
pub fn objects(list: &Value) -> Objects {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| (name(item), (value(item), revision(item)))).collect()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The value that an object holds.
pub fn value(object: &Value) -> u64 {
    object["data"]["v"].as_str().unwrap().parse().unwrap()
}

fn told(event: &Value) -> Told {
    let kind = match event["type"].as_str().unwrap() {
        "ADDED" => "ADDED",
        "MODIFIED" => "MODIFIED",
        "DELETED" => "DELETED",
        other => panic!("{other}: {event}"),
    };
    let object = &event["object"];
    Told { revision: revision(object), kind, name: name(object), value: value(object) }
}
