//! What a message cannot tell from nothing.

use crate::object::Object;
use crate::value::Value;

/// Makes of an object what is read of it after it was written: a list or a map without entries is none.
pub fn forget_empty(object: &mut Object) {
    object.retain(|field, value| {
        forget(value);
        // A list that is a message of its own may be there, and empty.
        field.items_message
            || match value {
                Value::List(items) => !items.is_empty(),
                Value::Map(entries) => !entries.is_empty(),
                _ => true,
            }
    });
}

fn forget(value: &mut Value) {
    match value {
        Value::Struct(object) => forget_empty(object),
        Value::List(items) => items.iter_mut().for_each(forget),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| forget(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::forget_empty;

    #[test]
    fn an_object_is_what_is_read_of_it() {
        let kind = crate::builtin().kind("", "v1", "Pod").unwrap();
        let json = br#"{"metadata":{"name":"p","labels":{}},"spec":{"nodeSelector":{},"containers":[{"name":"a","args":[],"resources":{"limits":{}}}],"volumes":[{"name":"v","emptyDir":{}}],"tolerations":[]}}"#;
        let mut object = crate::json::decode(&kind.ty, json).unwrap().object;
        let read = crate::protobuf::decode(&kind.ty, &crate::protobuf::encode(&object)).unwrap();
        forget_empty(&mut object);
        let json = |object| String::from_utf8(crate::json::encode(object)).unwrap();
        assert_eq!(json(&object), json(&read));
        assert!(json(&object).contains(r#""emptyDir":{}"#), "{}", json(&object));
        let kind = crate::builtin().kind("", "v1", "Node").unwrap();
        let node = br#"{"metadata":{"name":"n"},"status":{"images":[{"names":[]}]}}"#;
        let mut node = crate::json::decode(&kind.ty, node).unwrap().object;
        forget_empty(&mut node);
        assert!(json(&node).contains(r#""names":null"#), "{}", json(&node));
    }
}
