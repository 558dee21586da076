use k8s_openapi::api::resource::v1::Device;
use serde_json::json;

use super::*;

fn device() -> Device {
    serde_json::from_value(json!({
        "name": "d", "allowMultipleAllocations": true,
        "attributes": {"model": {"string": "a100"}, "cores": {"int": 8}, "ready": {"bool": true},
            "address": {"string": "192.168.0.1"}, "other.example.com/firmware": {"version": "1.10.0"}},
        "capacity": {"memory": {"value": "40Gi"}},
    }))
    .unwrap()
}

fn run(expression: &str) -> Result<bool, String> {
    let selector = Selector::compile(expression).map_err(|error| error.to_string())?;
    selector.matches("dra.example.com", &device()).map_err(|error| error.to_string())
}

#[test]
fn selectors_say_yes_and_no() {
    let table = [
        ("device.driver == 'dra.example.com'", true),
        ("device.driver.startsWith('x')", false),
        ("device.allowMultipleAllocations", true),
        ("device.attributes['dra.example.com'].model == 'a100'", true),
        (
            "device.attributes['dra.example.com'].cores >= 8 && device.attributes['dra.example.com'].ready",
            true,
        ),
        ("device.attributes['dra.example.com'].ready", true),
        ("device.attributes['other.example.com'].firmware.isGreaterThan(semver('1.9.0'))", true),
        ("device.attributes['other.example.com'].firmware.compareTo(semver('v1.10', true)) == 0", true),
        ("device.capacity['dra.example.com'].memory.compareTo(quantity('40Gi')) >= 0", true),
        ("device.capacity['dra.example.com'].memory.isGreaterThan(quantity('40Gi'))", false),
        ("device.capacity['dra.example.com'].memory.isLessThan(quantity('1Ti'))", true),
        ("'model' in device.attributes['dra.example.com']", true),
        ("'model' in device.attributes['nobody.example.com']", false),
        ("has(device.attributes['dra.example.com'].missing)", false),
        ("has(device.attributes['nobody.example.com'].missing)", false),
        ("'nobody.example.com' in device.attributes", false),
        ("device.attributes['dra.example.com'].model in ['h100', 'a100']", true),
        ("cel.bind(own, device.attributes['dra.example.com'], own.cores == 8 && own.ready)", true),
        (
            "['a', 'b'].exists(x, x == 'b') && [1, 2].all(x, x > 0) && [1, 2, 3].filter(x, x > 1).size() == 2",
            true,
        ),
        ("device.attributes['dra.example.com'].model.matches('^a[0-9]+$')", true),
        ("device.attributes['nobody.example.com'].x == 1 || true", true),
        ("7 / 2 == 3 && 7 % 4 == 3 && -7 < 0 && 'ab' + 'c' == 'abc' && 1.5 * 2.0 == 3.0", true),
        ("device.attributes['dra.example.com'].cores == 8 ? true : false", true),
    ];
    for (expression, expected) in table {
        assert_eq!(run(expression), Ok(expected), "{expression}");
    }
}

#[test]
fn what_goes_wrong_while_running_is_told_in_upstreams_words() {
    let table = [
        ("device.attributes['dra.example.com'].missing == 1", "no such key: missing"),
        ("device.attributes['nobody.example.com'].missing == 1", "no such key: missing"),
        ("device.attributes['dra.example.com'].model < 1", "no such overload"),
        (
            "device.attributes['dra.example.com'].cores.exists(x, x > 0)",
            "got 'types.Int', expected iterable type",
        ),
        ("1 / 0 == 1", "division by zero"),
        ("[1][3] == 1", "index out of bounds: 3"),
        (
            "device.attributes['dra.example.com'].model",
            "CEL result of type string could not be converted to bool: unsupported native conversion from string to 'bool'",
        ),
    ];
    for (expression, why) in table {
        assert_eq!(run(expression), Err(why.to_owned()), "{expression}");
    }
}

#[test]
fn what_cannot_be_right_is_refused_before() {
    let refused = |expression: &str| Selector::compile(expression).unwrap_err().to_string();
    assert_eq!(
        refused("noSuchVar"),
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'noSuchVar' (in container '')\n | noSuchVar\n | ^"
    );
    assert_eq!(
        refused("device.nope == 1"),
        "compilation failed: ERROR: <input>:1:7: undefined field 'nope'\n | device.nope == 1\n | ......^"
    );
    assert_eq!(
        refused("device.driver == 1"),
        "compilation failed: ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(string, int)'\n | \
         device.driver == 1\n | ..............^"
    );
    assert_eq!(refused("device.driver"), "must evaluate to bool or the unknown type, not string");
    assert_eq!(refused("[1]"), "must evaluate to bool or the unknown type, not list(int)");
    assert!(refused("device.").contains("Syntax error"), "{}", refused("device."));
}

#[test]
fn an_expression_that_would_run_for_long_is_stopped() {
    let mut expression = "true".to_owned();
    for name in ["a", "b", "c", "d"] {
        let list = (0..40).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        expression = format!("[{list}].all({name}, {expression})");
    }
    assert_eq!(run(&expression), Err("operation cancelled: actual cost limit exceeded".to_owned()));
}

/// Every expression of the list gets the verdict that Kubernetes v1.36.2 gives it for the device above: `!` why it does
/// not compile, `?` why it has no answer, `=` its answer; then what it may cost at most, and what it did cost.
#[test]
fn expressions_are_judged_as_upstream_judges_them() {
    let lines: Vec<&str> = include_str!("verdicts.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut wrong = Vec::new();
    for pair in lines.chunks(2) {
        let [expression, verdict] = pair else { panic!("{pair:?}") };
        let found = match Selector::compile(expression) {
            Err(why) => format!("! {}", why.to_string().replace('\n', "\\n")),
            Ok(selector) => {
                let most = selector.most_cost();
                match selector.matches("dra.example.com", &device()) {
                    Ok(answer) => format!("= {answer} | {most}"),
                    Err(why) => format!("? {why} | {most}"),
                }
            }
        };
        // What it did cost is counted more roughly here.
        let wanted = match verdict.starts_with('!') {
            true => *verdict,
            false => verdict.rsplit_once(' ').map_or(*verdict, |(most, _)| most),
        };
        if found != wanted {
            wrong.push(format!("{expression}\n  is     {found}\n  wanted {wanted}"));
        }
    }
    assert!(lines.len() > 100 && wrong.is_empty(), "{}", wrong.join("\n"));
}
