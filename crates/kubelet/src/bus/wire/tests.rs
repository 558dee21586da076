use super::*;

fn inhibit() -> Message {
    Message {
        path: "/org/freedesktop/login1".to_owned(),
        interface: "org.freedesktop.login1.Manager".to_owned(),
        member: "Inhibit".to_owned(),
        destination: "org.freedesktop.login1".to_owned(),
        body: vec![
            Value::Text("shutdown".to_owned()),
            Value::Variant(Box::new(Value::Uint64(5))),
            Value::Bool(true),
            Value::Int32(-1),
            Value::Properties(vec![
                ("MemoryMax".to_owned(), Value::Uint64(u64::MAX)),
                ("CPUAccounting".to_owned(), Value::Bool(true)),
            ]),
            Value::Properties(Vec::new()),
            Value::NoUnits,
        ],
        ..Message::new(Kind::Call, 7)
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = encode(&inhibit());
    assert_eq!(length(&bytes[..HEAD]), Ok(bytes.len()));
    assert_eq!(decode(&bytes), Ok(inhibit()));
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn a_message_has_the_bytes_of_the_specification() {
    let hello = Message {
        path: "/a".to_owned(),
        member: "Hello".to_owned(),
        body: vec![Value::Text("hi".to_owned())],
        ..Message::new(Kind::Call, 1)
    };
    let mut wanted = b"l\x01\x00\x01\x07\x00\x00\x00\x01\x00\x00\x00\x27\x00\x00\x00".to_vec();
    wanted.extend(b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00");
    wanted.extend(b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00");
    wanted.extend(b"\x08\x01g\x00\x01s\x00\x00");
    wanted.extend(b"\x02\x00\x00\x00hi\x00");
    assert_eq!(encode(&hello), wanted);
}

#[test]
fn a_body_of_other_types_is_left_out_and_a_huge_message_refused() {
    let mut bytes = encode(&Message { body: vec![Value::Byte(1)], ..Message::new(Kind::Signal, 1) });
    let place = bytes.windows(4).position(|part| part == b"\x01y\x00\x00").unwrap();
    bytes[place + 1] = b'd';
    assert_eq!(decode(&bytes).unwrap().body, []);
    assert!(length(b"l\x01\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff").is_err());
}
