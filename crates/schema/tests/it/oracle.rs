//! The same questions to this crate and to upstream's Go libraries.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use schema::quantity::Quantity;
use schema::{Kind, Object, builtin, json, patch};
use serde_json::{Value, json};

use crate::generate::{self, Dice};

/// The Go program, built once into the target directory.
struct Oracle {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
        let program = BUILT.get_or_init(|| {
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oracle");
            let status = Command::new("go")
                .args(["build", "-o"])
                .arg(&program)
                .arg("./oracle")
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("gen"))
                .status()
                .expect("go must be on the PATH");
            assert!(status.success());
            program
        });
        let mut process = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the oracle has died")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends when its input does; a failed test may have left it in between.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const KINDS: [(&str, &str, &str); 9] = [
    ("", "v1", "Pod"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Node"),
    ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
];

fn kind(dice: &mut Dice) -> (&'static Kind, Value) {
    let (group, version, name) = *dice.pick(&KINDS);
    let kind = builtin().kind(group, version, name).unwrap();
    (kind, json!([group, version, name]))
}

fn random(dice: &mut Dice, kind: &Kind) -> (Object, Value) {
    let density = 1 + dice.below(7);
    let value = generate::object(dice, &kind.ty, 0, density);
    let decoded = json::decode(&kind.ty, value.to_string().as_bytes());
    (decoded.unwrap_or_else(|e| panic_with(&value, &e)).object, value)
}

#[expect(clippy::panic, reason = "a test may fail")]
fn panic_with(value: &Value, error: &dyn std::fmt::Display) -> ! {
    panic!("{error}: {value}")
}

fn text(object: &Object) -> String {
    String::from_utf8(json::encode(object)).unwrap()
}

/// Runs the cases and reports the first few that differ.
fn run(cases: u64, mut case: impl FnMut(&mut Dice, &mut Oracle) -> Option<String>) {
    let mut oracle = Oracle::start();
    let mut wrong = Vec::new();
    for seed in 1..=cases {
        if let Some(difference) = case(&mut Dice::new(seed), &mut oracle) {
            wrong.push(format!("seed {seed}: {difference}"));
        }
    }
    let shown = wrong.iter().take(4).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {cases} differ:\n{shown}", wrong.len());
}

fn differ(what: &str, ours: &str, theirs: &str) -> Option<String> {
    (ours != theirs).then(|| format!("{what}\n  ours   {ours}\n  theirs {theirs}"))
}

fn theirs(answer: &Value) -> String {
    match answer["error"].as_str() {
        Some(error) => format!("error: {error}"),
        None => answer["text"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn quantities() {
    const NUMBERS: [&str; 14] = [
        "0",
        "1",
        "-1",
        "+5",
        "007",
        "1000",
        "0.5",
        ".5",
        "1.",
        "1024",
        "123456789",
        "999999999999999999",
        "0.0000000001",
        "12345678901234567890",
    ];
    const SUFFIXES: [&str; 18] =
        ["", "m", "u", "n", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ei", "e3", "E-2", "x", "mm"];
    run(1500, |dice, oracle| {
        let mut make = || format!("{}{}", dice.pick(&NUMBERS), dice.pick(&SUFFIXES));
        let (a, b) = (make(), make());
        // Sums of more than 38 digits saturate.
        let sums = a.len() < 15 && b.len() < 15;
        let answer = oracle.ask(&json!({"op": "quantity", "a": a, "b": b}));
        let parse = |t: &str| t.parse::<Quantity>().map_err(|e| e.to_string());
        let ours = parse(&a).and_then(|x| {
            let y = parse(&b)?;
            let mut parts = vec![x.to_string(), y.to_string()];
            if sums {
                parts.extend([x.add(&y).to_string(), x.sub(&y).to_string()]);
            }
            Ok(format!("{} {}", parts.join(" "), x.cmp(&y) as i64))
        });
        let expected = match answer["error"].as_str() {
            Some(error) => format!("error: {error}"),
            None => {
                let list = answer["list"].as_array().unwrap().iter().take(if sums { 4 } else { 2 });
                let list: Vec<&str> = list.map(|v| v.as_str().unwrap()).collect();
                format!("{} {}", list.join(" "), answer["number"])
            }
        };
        let ours = ours.unwrap_or_else(|e| format!("error: {e}"));
        differ(&format!("{a} {b}"), &ours, &expected)
    });
}

#[test]
fn selectors() {
    const TOKENS: [&str; 19] = [
        "a", "b", "in", "notin", "=", "==", "!=", "!", "(", ")", ",", " ", ">", "<", "1", "x/y", "-z", "a",
        "",
    ];
    run(3000, |dice, oracle| {
        let text: String = match dice.below(3) {
            0 => (0..dice.below(9)).map(|_| *dice.pick(&TOKENS)).collect(),
            1 => format!("a in ({},{}),!b", dice.pick(&TOKENS), dice.pick(&TOKENS)),
            _ => format!("{}{}{},b", dice.pick(&TOKENS), dice.pick(&TOKENS), dice.pick(&TOKENS)),
        };
        let labels = json!({"a": "1", "x/y": "b"});
        let answer = oracle.ask(&json!({"op": "labels", "a": text, "labels": labels}));
        let ours = match schema::labels::Selector::parse(&text) {
            Ok(s) => format!("{s} {}", s.matches(|k| labels[k].as_str())),
            Err(e) => format!("error: {e}"),
        };
        let expected = match answer["error"].as_str() {
            Some(error) => format!("error: {error}"),
            None => format!("{} {}", answer["text"].as_str().unwrap(), answer["match"]),
        };
        differ(&text, &ours, &expected)
    });
}

#[test]
fn yaml_is_written_alike() {
    const STRINGS: [&str; 25] = [
        "",
        " ",
        "a b",
        "yes",
        "null",
        "~",
        "1",
        "1.5",
        "1e3",
        "0x1",
        "1:30",
        "- a",
        "a: b",
        "a #b",
        "#a",
        "l1\nl2",
        "l1\n",
        "\nl",
        "a\tb",
        "é",
        "2020-01-01",
        "{a",
        "a'b\"",
        "trailing ",
        "a\n\n",
    ];
    run(800, |dice, oracle| {
        fn make(dice: &mut Dice, depth: usize) -> Value {
            match dice.below(if depth > 3 { 5 } else { 7 }) {
                0 => Value::Null,
                1 => (dice.below(100) as i64 - 50).into(),
                2 => ((2 * dice.below(1000) + 1) as f64 / 64.0).into(),
                3 | 4 => (*dice.pick(&STRINGS)).into(),
                5 => (0..dice.below(4)).map(|_| make(dice, depth + 1)).collect(),
                _ => {
                    let entries = (0..dice.below(4))
                        .map(|_| ((*dice.pick(&STRINGS)).to_owned(), make(dice, depth + 1)));
                    Value::Object(entries.collect())
                }
            }
        }
        let document = make(dice, 0).to_string();
        let answer = oracle.ask(&json!({"op": "toyaml", "a": document}));
        let written = schema::yaml::from_json(document.as_bytes()).unwrap();
        let written = String::from_utf8(written).unwrap();
        let back = schema::yaml::to_json(written.as_bytes()).map_err(|e| e.to_string());
        let same = back.and_then(|b| serde_json::from_slice::<Value>(&b).map_err(|e| e.to_string()));
        let expected = serde_json::from_str::<Value>(&document).unwrap();
        differ(&document, &written, answer["text"].as_str().unwrap()).or_else(|| {
            (same.as_ref() != Ok(&expected)).then(|| format!("{document} reads back as {same:?}"))
        })
    });
}

#[test]
fn yaml_words_mean_the_same() {
    const PARTS: [&str; 17] =
        ["0", "1", "7", "-", "+", ".", "e", "x", "_", "o", "b", "y", "on", "No", "T", ":", "9"];
    run(2000, |dice, oracle| {
        let word: String = (0..1 + dice.below(5)).map(|_| *dice.pick(&PARTS)).collect();
        let document = format!("a: {word}");
        let answer = oracle.ask(&json!({"op": "yaml", "a": document}));
        if answer["error"].is_string() {
            return None;
        }
        let ours = schema::yaml::to_json(document.as_bytes());
        let ours = ours.map_or_else(|e| format!("error: {e}"), |j| String::from_utf8(j).unwrap());
        differ(&document, &ours, answer["text"].as_str().unwrap())
    });
}

#[test]
fn json_is_decoded_alike() {
    run(1500, |dice, oracle| {
        let (kind, gvk) = kind(dice);
        let density = 1 + dice.below(8);
        let mut document = generate::object(dice, &kind.ty, 0, density);
        let spoiled = dice.one_in(2);
        if spoiled {
            generate::spoil(dice, &mut document, 40);
        }
        let mut document = document.to_string();
        if dice.one_in(4) && document.len() > 2 {
            document = document.replacen(
                '{',
                r#"{"metadata":{"name":"first","name":"x","labels":{"a":"b","a":"c"}},"#,
                1,
            );
            document = document.replace(",}", "}");
        }
        let answer = oracle.ask(&json!({"op": "decode", "a": document, "kind": gvk}));
        let ours = match json::decode(&kind.ty, document.as_bytes()) {
            Ok(decoded) => format!("{} {:?}", text(&decoded.object), decoded.strict),
            Err(error) => format!("error: {error}"),
        };
        let expected = match answer["error"].as_str() {
            Some(error) => format!("error: {error}"),
            None => {
                let strict = answer["list"].as_array().cloned().unwrap_or_default();
                let strict: Vec<&str> = strict.iter().map(|v| v.as_str().unwrap()).collect();
                format!("{} {strict:?}", answer["text"].as_str().unwrap())
            }
        };
        differ(&document, &ours, &expected)
    });
}

#[test]
fn patches_give_the_same() {
    run(600, |dice, oracle| {
        let (kind, gvk) = kind(dice);
        let (object, _) = random(dice, kind);
        let (_, other) = random(dice, kind);
        let mut other = other;
        generate::spoil_with_nulls(dice, &mut other);
        let original = text(&object);
        let patch_text = other.to_string();
        let request = json!({"op": "mergepatch", "a": original, "b": patch_text, "kind": gvk});
        let answer = oracle.ask(&request);
        let ours = patch::merge_patch(&object, patch_text.as_bytes());
        let ours = ours.map_or_else(|e| format!("error: {e}"), |d| text(&d.object));
        differ(&format!("{original}\n{patch_text}"), &ours, &theirs(&answer))
    });
}

#[test]
fn json_patches_give_the_same() {
    const PATHS: [&str; 14] = [
        "",
        "/metadata/name",
        "/metadata/labels/cpu",
        "/metadata/labels",
        "/metadata/finalizers/0",
        "/metadata/finalizers/-",
        "/metadata/finalizers/-1",
        "/metadata/finalizers/9",
        "/metadata/finalizers/x",
        "/metadata/nothing",
        "/none/there",
        "/metadata/labels/z~1q",
        "/metadata/annotations/memory",
        "/metadata",
    ];
    run(1500, |dice, oracle| {
        let (kind, gvk) = kind(dice);
        let document =
            json!({"metadata": {"name": "n", "labels": {"cpu": "a", "z/q": "b"}, "finalizers": ["a", "b"]}});
        let object = json::decode(&kind.ty, document.to_string().as_bytes()).unwrap().object;
        let operations: Vec<Value> = (0..1 + dice.below(3))
            .map(|_| {
                let value = [json!("a"), json!(null), json!({"cpu": "a"}), json!(["a"])];
                let op = dice.pick(&["add", "remove", "replace", "move", "copy", "test", "jump"]);
                let (path, from) = (dice.pick(&PATHS), dice.pick(&PATHS));
                json!({"op": op, "path": path, "from": from, "value": dice.pick(&value)})
            })
            .collect();
        let patch_text = Value::Array(operations).to_string();
        let original = text(&object);
        let answer = oracle.ask(&json!({"op": "jsonpatch", "a": original, "b": patch_text, "kind": gvk}));
        let ours = patch::json_patch(&object, patch_text.as_bytes());
        let ours = ours.map_or_else(|e| format!("error: {e}"), |d| text(&d.object));
        differ(&format!("{original}\n{patch_text}"), &ours, &theirs(&answer))
    });
}

#[test]
fn strategic_merges_give_the_same() {
    run(1000, |dice, oracle| {
        let (kind, gvk) = kind(dice);
        let (object, _) = random(dice, kind);
        let (_, mut patch_value) = random(dice, kind);
        generate::add_directives(dice, &mut patch_value, &kind.ty);
        let (original, patch_text) = (text(&object), patch_value.to_string());
        let request = json!({"op": "strategic", "a": original, "b": patch_text, "kind": gvk});
        let answer = oracle.ask(&request);
        let ours = patch::strategic_merge(&object, patch_text.as_bytes());
        match (ours, answer["error"].as_str()) {
            (Ok(ours), None) => {
                let what = format!("{original}\n{patch_text}");
                differ(&what, &text(&ours.object), answer["text"].as_str().unwrap())
            }
            // Which of several errors is found first depends on the order of a Go map.
            (Err(_), Some(_)) => None,
            (Ok(_), Some(error)) => Some(format!("{original}\n{patch_text}\n  only they fail: {error}")),
            (Err(error), None) => Some(format!("{original}\n{patch_text}\n  only we fail: {error}")),
        }
    });
}

#[test]
fn comparisons_find_the_same() {
    run(1000, |dice, oracle| {
        let (kind, gvk) = kind(dice);
        let (left, _) = random(dice, kind);
        let (right, _) = random(dice, kind);
        let with_kind = |o: &Object| {
            let mut o = o.clone();
            o.set_gvk(kind);
            // These are nobody's, and not looked at here.
            o.metadata_mut().remove("managedFields");
            o
        };
        let (left, right) = (with_kind(&left), with_kind(&right));
        let request = json!({"op": "compare", "a": text(&left), "b": text(&right), "kind": gvk});
        let answer = oracle.ask(&request);
        if answer["error"].is_string() {
            // Lists of maps with items that have no key at all are refused there, left out here.
            return None;
        }
        let ours = schema::managed::compare(&left, &right);
        let ours: Vec<String> = [ours.added, ours.modified, ours.removed]
            .iter()
            .map(|s| String::from_utf8(s.to_json()).unwrap())
            .collect();
        let expected: Vec<&str> =
            answer["list"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let what = format!("{}\n{}", text(&left), text(&right));
        differ(&what, &ours.join("\n  "), &expected.join("\n  "))
    });
}
