//! Random JSON for a type: small alphabets, so that things collide.

use schema::types::{Form, Struct, Type};
use serde_json::{Map, Value, json};

/// A generator that repeats itself for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const WORDS: [&str; 8] = ["a", "b", "c", "TCP", "x-1", "<&>", "é\u{2028}", ""];
const QUANTITIES: [&str; 8] = ["1", "100m", "1Gi", "0", "1.5", "1e3", "500Ki", "2000m"];
const TIMES: [&str; 3] = ["2020-01-02T03:04:05Z", "1999-12-31T23:59:59+01:00", "2020-01-02T03:04:05.7Z"];

/// How many of a struct's fields are set, out of 16.
pub fn object(dice: &mut Dice, ty: &Struct, depth: usize, density: usize) -> Value {
    if ty.form != Form::Object {
        return Value::Null;
    }
    let mut map = Map::new();
    for field in &ty.fields {
        if matches!(&*field.json, "kind" | "apiVersion") && depth < 1 && !dice.one_in(8) {
            continue;
        }
        if dice.below(16) >= density && !field.required {
            continue;
        }
        map.insert(field.json.to_string(), value(dice, &field.ty, depth + 1, density));
    }
    Value::Object(map)
}

pub fn value(dice: &mut Dice, ty: &Type, depth: usize, density: usize) -> Value {
    match ty {
        Type::Bool => dice.one_in(2).into(),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => dice.below(4).into(),
        Type::Float64 => (dice.below(40) as f64 / 8.0).into(),
        Type::String => (*dice.pick(&WORDS)).into(),
        Type::Bytes => (*dice.pick(&["", "YQ==", "/+8="])).into(),
        Type::Time => (*dice.pick(&TIMES)).into(),
        Type::MicroTime => "2020-01-02T03:04:05.000006Z".into(),
        Type::Duration => (*dice.pick(&["0s", "1h", "1.5s"])).into(),
        Type::IntOrString => match dice.below(3) {
            0 => 0.into(),
            1 => 8080.into(),
            _ => (*dice.pick(&WORDS)).into(),
        },
        Type::Quantity => (*dice.pick(&QUANTITIES)).into(),
        Type::Raw | Type::FieldsV1 => json!({"x": [1, null], "a": "<"}),
        Type::Any => json!({"x": [1, null, 1.5], "a": "b"}),
        Type::Struct(_) if depth > 9 => json!({}),
        Type::Struct(ty) => object(dice, ty, depth, density),
        Type::List(item) => {
            let count = dice.below(4);
            let items = (0..count).map(|_| value(dice, item, depth + 1, density));
            Value::Array(items.collect())
        }
        Type::Map(item) => {
            let count = dice.below(3);
            let keys = ["cpu", "memory", "z/q"];
            let entries = (0..count).map(|i| (keys[i].to_owned(), value(dice, item, depth + 1, density)));
            Value::Object(entries.collect())
        }
    }
}

/// Spoils some values: other types, nulls, unknown fields.
pub fn spoil(dice: &mut Dice, value: &mut Value, odds: usize) {
    if dice.one_in(odds) {
        let other = [json!(null), json!("text"), json!(7), json!(1.5), json!(true), json!([]), json!({})];
        *value = dice.pick(&other).clone();
        return;
    }
    match value {
        Value::Object(map) => {
            for (_, child) in map.iter_mut() {
                spoil(dice, child, odds);
            }
            if dice.one_in(odds) {
                map.insert("unknownField".into(), json!({"a": 1}));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|i| spoil(dice, i, odds)),
        _ => {}
    }
}

/// Puts nulls in some places, as a merge patch has them.
pub fn spoil_with_nulls(dice: &mut Dice, value: &mut Value) {
    if let Value::Object(map) = value {
        for (_, child) in map.iter_mut() {
            if dice.one_in(5) {
                *child = Value::Null;
            } else {
                spoil_with_nulls(dice, child);
            }
        }
    }
}

/// Adds the directives of a strategic merge patch where they may stand.
pub fn add_directives(dice: &mut Dice, value: &mut Value, ty: &Struct) {
    let Value::Object(map) = value else {
        return;
    };
    let mut extra = Map::new();
    let mut replaced = Vec::new();
    for (key, child) in map.iter_mut() {
        let Some((_, field)) = ty.field(key) else {
            continue;
        };
        if dice.one_in(8) {
            *child = Value::Null;
            continue;
        }
        match (&field.ty, &mut *child) {
            (Type::Struct(inner), child) => {
                if dice.one_in(10) {
                    child["$patch"] = (*dice.pick(&["replace", "delete"])).into();
                } else {
                    add_directives(dice, child, inner);
                }
            }
            (Type::List(item), Value::Array(items)) => {
                let merge = field.patch_strategy.contains("merge");
                if let (Type::Struct(inner), true) = (&**item, merge) {
                    for item in items.iter_mut() {
                        add_directives(dice, item, inner);
                        if dice.one_in(6) {
                            item["$patch"] = (*dice.pick(&["delete", "replace"])).into();
                        }
                    }
                    if dice.one_in(4) {
                        let order: Vec<Value> = items
                            .iter()
                            .filter(|i| i.get("$patch").is_none())
                            .map(|i| json!({&*field.patch_merge_key: i.get(&*field.patch_merge_key)}))
                            .collect();
                        extra.insert(format!("$setElementOrder/{key}"), order.into());
                    }
                } else if merge && dice.one_in(3) {
                    let doomed = items.iter().take(1).cloned().collect::<Vec<_>>();
                    extra.insert(format!("$deleteFromPrimitiveList/{key}"), doomed.into());
                    // With both, the outcome depends on the order of a Go map.
                    replaced.push(key.clone());
                }
            }
            _ => {}
        }
    }
    for key in replaced {
        map.remove(&key);
    }
    map.extend(extra);
    if dice.one_in(12) {
        let keys: Vec<Value> =
            map.keys().filter(|k| !k.starts_with('$')).map(|k| k.as_str().into()).collect();
        map.insert("$retainKeys".into(), keys.into());
    }
}
