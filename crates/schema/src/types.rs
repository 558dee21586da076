//! Types as data: what the catalogue and a CustomResourceDefinition say about a field.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::catalogue::LazyStruct;
use crate::crd::Validation;
use crate::names::Names;
use crate::value::Value;

/// A struct type: its fields in the order in which JSON is written (Go's declaration order; by
/// name for custom resources).
#[derive(Debug)]
pub struct Struct {
    /// The OpenAPI style name, such as `io.k8s.api.core.v1.Pod`.
    pub name: String,
    pub fields: Vec<Field>,
    /// Unknown fields are kept (custom resources only).
    pub preserve_unknown: bool,
    /// Comes from a CustomResourceDefinition: presence is tracked for every field, a value of the
    /// wrong type is kept for validation to report, and null stays null.
    pub custom: bool,
    /// `+structType=atomic`: server-side apply owns it as a whole.
    pub atomic: bool,
    /// How the struct stands in JSON.
    pub form: Form,
    /// The protobuf message, by ascending field number; empty for types without protobuf.
    pub proto: Vec<ProtoNode>,
    /// Whether the type has a protobuf form at all.
    pub has_proto: bool,
    /// The group, version and kind combinations under which the type is registered.
    pub kinds: Vec<(String, String, String)>,
    /// What a custom resource's schema demands of the whole object.
    pub validation: Option<Arc<Validation>>,
    pub(crate) by_name: Box<[u16]>,
    pub(crate) names: Names,
}

/// How a struct is written in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// As an object with its fields.
    #[default]
    Object,
    /// apiextensions `JSONSchemaPropsOrBool`: a schema or a bool.
    SchemaOrBool,
    /// apiextensions `JSONSchemaPropsOrArray`: a schema or a list of schemas.
    SchemaOrArray,
    /// apiextensions `JSONSchemaPropsOrStringArray`: a schema or a list of strings.
    SchemaOrStrings,
}

/// One entry of a protobuf message.
#[derive(Debug, Clone)]
pub struct ProtoNode {
    pub tag: u32,
    pub kind: ProtoKind,
}

#[derive(Debug, Clone)]
pub enum ProtoKind {
    /// A field of the struct, by index.
    Field(u16),
    /// An embedded Go struct, which is a message of its own here but flattened in JSON. It is
    /// always written, even when empty, unless it is behind a pointer.
    Embedded { nodes: Vec<ProtoNode>, pointer: bool },
}

/// One field of a struct.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Field {
    pub json: Box<str>,
    pub ty: Type,
    /// A Go pointer (or a custom resource's field): a present zero value differs from absence.
    pub pointer: bool,
    pub omitempty: bool,
    pub omitzero: bool,
    pub required: bool,
    /// Protobuf tag numbers from the outside in; more than one for a field of an embedded struct;
    /// empty when the field is not in protobuf.
    pub proto: SmallVec<[u32; 2]>,
    /// The (innermost) list is a protobuf message `{ repeated … items = 1 }`.
    pub items_message: bool,
    pub list: ListType,
    /// `+mapType=atomic`.
    pub map_atomic: bool,
    /// `+structType=atomic` on the field.
    pub struct_atomic: bool,
    /// `+structType=granular` on the field: though its type is atomic, it is not here.
    pub struct_granular: bool,
    /// Such as `merge`, `replace`, `retainKeys` or `merge,retainKeys`; empty when not given.
    pub patch_strategy: Box<str>,
    /// Empty when not given.
    pub patch_merge_key: Box<str>,
    /// What Go calls the type, where that does not follow from `ty`: `v1.RestartPolicy`.
    pub go_type: Box<str>,
    /// The names of the embedded Go structs that the field is in, with dots; only for messages.
    pub go_embedded: Box<str>,
    /// The default as JSON text.
    pub default: Option<Box<str>>,
    pub enum_values: Vec<Box<str>>,
    /// Custom resources: what the schema demands of the value.
    pub validation: Option<Arc<Validation>>,
    /// Custom resources: null is a value.
    pub nullable: bool,
}

impl Field {
    /// An optional field with nothing special about it.
    pub fn new(json: &str, ty: Type) -> Self {
        Self {
            json: json.into(),
            ty,
            pointer: false,
            omitempty: true,
            omitzero: false,
            required: false,
            proto: SmallVec::new(),
            items_message: false,
            list: ListType::None,
            map_atomic: false,
            struct_atomic: false,
            struct_granular: false,
            patch_strategy: "".into(),
            patch_merge_key: "".into(),
            go_type: "".into(),
            go_embedded: "".into(),
            default: None,
            enum_values: Vec::new(),
            validation: None,
            nullable: false,
        }
    }

    /// Whether a tree does not store this value: Go could not tell it from nothing.
    pub fn is_absent(&self, value: &Value) -> bool {
        !self.pointer && value.is_zero_of(&self.ty)
    }

    /// A struct that is typed as Go types it: a custom resource's metadata.
    pub(crate) fn is_builtin_struct(&self) -> bool {
        matches!(&self.ty, Type::Struct(ty) if !ty.custom)
    }

    /// Whether JSON omits an empty list, map or byte string.
    pub(crate) fn drops_empty(&self) -> bool {
        self.omitempty && !self.pointer
    }

    /// Whether null sets the field to nil, rather than to leave it as it is.
    pub(crate) fn nil_on_null(&self) -> bool {
        self.pointer
            || matches!(
                self.ty,
                Type::List(_)
                    | Type::Map(_)
                    | Type::Bytes
                    | Type::Any
                    | Type::Time
                    | Type::MicroTime
                    | Type::Quantity
                    | Type::IntOrString
            )
    }
}

/// How server-side apply merges a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ListType {
    /// Not said, which means atomic.
    #[default]
    None,
    Atomic,
    Set,
    /// By these keys of its items.
    Map(Vec<Box<str>>),
}

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Type {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Float64,
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Held as nanoseconds; written as Go writes a duration.
    Duration,
    IntOrString,
    /// Held as its canonical string.
    Quantity,
    /// RawExtension and apiextensions JSON: any JSON text, kept as it came.
    Raw,
    /// The JSON text of a field set.
    FieldsV1,
    /// Any value, as a tree.
    Any,
    Struct(StructRef),
    List(Box<Type>),
    Map(Box<Type>),
}

/// A cheap reference to a struct type; equal when it is the same type, not an equal one.
#[derive(Clone)]
pub enum StructRef {
    Builtin(&'static LazyStruct),
    Shared(Arc<Struct>),
}

impl Deref for StructRef {
    type Target = Struct;

    #[inline]
    fn deref(&self) -> &Struct {
        match self {
            Self::Builtin(lazy) => lazy.get(),
            Self::Shared(shared) => shared,
        }
    }
}

impl PartialEq for StructRef {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Builtin(a), Self::Builtin(b)) => std::ptr::eq(*a, *b),
            (Self::Shared(a), Self::Shared(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for StructRef {}

impl std::fmt::Debug for StructRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<Struct> for StructRef {
    fn from(value: Struct) -> Self {
        Self::Shared(Arc::new(value))
    }
}

impl Struct {
    /// Makes a struct and works out its indexes. `fields` are in JSON order.
    pub fn new(name: impl Into<String>, fields: Vec<Field>) -> Self {
        let mut by_name: Vec<u16> = (0..fields.len()).map(|i| i as u16).collect();
        by_name.sort_by(|a, b| json_name(&fields, *a).cmp(json_name(&fields, *b)));
        let names = Names::of(fields.iter().map(|field| &*field.json));
        let proto = proto_nodes(&fields);
        Self {
            names,
            name: name.into(),
            preserve_unknown: false,
            custom: false,
            atomic: false,
            form: Form::Object,
            has_proto: !proto.is_empty(),
            proto,
            kinds: Vec::new(),
            validation: None,
            by_name: by_name.into_boxed_slice(),
            fields,
        }
    }

    /// The field with this JSON name, and its index.
    pub fn field(&self, json: &str) -> Option<(u16, &Field)> {
        let index = match self.names.find(json, |index| json_name(&self.fields, index) == json) {
            Ok(index) => index?,
            Err(()) => {
                let found = self.by_name.binary_search_by(|i| json_name(&self.fields, *i).cmp(json)).ok()?;
                *self.by_name.get(found)?
            }
        };
        Some((index, self.fields.get(usize::from(index))?))
    }

    /// As [`Struct::field`], trying the field at `hint` first: JSON mostly comes in order.
    #[inline]
    pub(crate) fn field_near(&self, hint: u16, json: &str) -> Option<(u16, &Field)> {
        if let Some(field) = self.fields.get(usize::from(hint))
            && &*field.json == json
        {
            return Some((hint, field));
        }
        self.field(json)
    }

    /// Field indexes in the order of their JSON names.
    pub fn sorted(&self) -> impl Iterator<Item = (u16, &Field)> {
        self.by_name.iter().filter_map(|i| Some((*i, self.fields.get(usize::from(*i))?)))
    }
}

fn json_name(fields: &[Field], index: u16) -> &str {
    fields.get(usize::from(index)).map_or("", |f| &f.json)
}

/// Builds the message layout from the fields' tag paths. An embedded struct behind a pointer is
/// not known here; the catalogue marks it afterwards.
fn proto_nodes(fields: &[Field]) -> Vec<ProtoNode> {
    let mut nodes = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        insert_node(&mut nodes, &field.proto, index as u16);
    }
    sort_nodes(&mut nodes);
    nodes
}

fn insert_node(nodes: &mut Vec<ProtoNode>, path: &[u32], index: u16) {
    match path {
        [] => {}
        [tag] => nodes.push(ProtoNode { tag: *tag, kind: ProtoKind::Field(index) }),
        [tag, rest @ ..] => {
            for node in nodes.iter_mut() {
                if node.tag == *tag
                    && let ProtoKind::Embedded { nodes, .. } = &mut node.kind
                {
                    insert_node(nodes, rest, index);
                    return;
                }
            }
            let mut inner = Vec::new();
            insert_node(&mut inner, rest, index);
            nodes.push(ProtoNode { tag: *tag, kind: ProtoKind::Embedded { nodes: inner, pointer: false } });
        }
    }
}

fn sort_nodes(nodes: &mut [ProtoNode]) {
    nodes.sort_by_key(|n| n.tag);
    for node in nodes {
        if let ProtoKind::Embedded { nodes, .. } = &mut node.kind {
            sort_nodes(nodes);
        }
    }
}

/// A kind: what a group, a version and a name stand for.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Empty for the core group.
    pub group: Box<str>,
    pub version: Box<str>,
    pub kind: Box<str>,
    pub ty: StructRef,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}
